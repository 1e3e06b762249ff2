"""Damaged, interrupted and refused checkpoints: noticed, survived, cleaned up."""

import errno
import json
import logging
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.checkpoints.snapshot_store import SnapshotError
from tensor_optix.core.types import HyperparamSet
from tests.core.array_agent import ArrayAgent, damage, evaluation, listing, save, scores


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "checkpoints"


@pytest.fixture
def registry(directory):
    return CheckpointRegistry(directory)


# ---- damage


def test_a_damaged_best_gives_way_to_the_next(registry, caplog):
    save(registry, 1.0)
    save(registry, 2.0)
    damage(registry.best)
    agent = ArrayAgent()
    assert registry.load_best(agent).eval_metrics.primary_score == 1
    assert agent.weights.tolist() == [1, 1, 1]
    assert "skipping a damaged checkpoint" in caplog.text
    assert "weights/weights.npy" in caplog.text


def test_load_best_says_none_when_nothing_is_sound(registry):
    save(registry, 1.0)
    save(registry, 2.0)
    damage(registry.snapshots[0])
    (Path(registry.snapshots[1].weights_path) / "weights.npy").unlink()
    agent = ArrayAgent(42)
    assert registry.load_best(agent) is None
    assert registry.load_ensemble(agent) is None
    assert agent.weights.tolist() == [42, 42, 42]


def test_loading_a_damaged_snapshot_raises_and_leaves_the_agent_alone(registry):
    snapshot = save(registry, 1.0)
    damage(snapshot)
    agent = ArrayAgent(42)
    with pytest.raises(SnapshotError, match="not what was saved"):
        registry.load(snapshot, agent)
    assert agent.weights.tolist() == [42, 42, 42]


def test_a_given_snapshot_loads_with_its_hyperparameters(registry):
    save(registry, 2.0)
    second = save(registry, 1.0, params={"learning_rate": 0.5})
    agent = ArrayAgent()
    registry.load(second, agent)
    assert agent.weights.tolist() == [1, 1, 1]
    assert agent.hyperparams.params == {"learning_rate": 0.5}


def test_a_snapshot_that_is_gone_is_an_error(registry):
    snapshot = save(registry, 1.0)
    shutil.rmtree(Path(snapshot.weights_path).parent)
    with pytest.raises(SnapshotError, match="holds no snapshot"):
        registry.load(snapshot, ArrayAgent())
    assert registry.best is None


@pytest.mark.parametrize("content", [None, b"", b'[{"snapshot_id": "ab', b"{}", b"\xff\xfe"])
def test_a_broken_manifest_is_rebuilt_from_the_snapshots(registry, directory, content, caplog):
    save(registry, 1.0)
    save(registry, 2.0)
    manifest = directory / "manifest.json"
    sound = manifest.read_bytes()
    manifest.unlink() if content is None else manifest.write_bytes(content)
    reopened = CheckpointRegistry(directory)
    assert scores(reopened) == [2, 1]
    assert "rebuilding the manifest" in caplog.text
    assert manifest.read_bytes() == sound
    save(reopened, 3.0)
    assert scores(CheckpointRegistry(directory)) == [3, 2, 1]


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"score": {"$float": "x"}}'])
def test_a_snapshot_with_broken_metadata_is_ignored_and_kept(registry, directory, content, caplog):
    save(registry, 1.0)
    broken = save(registry, 2.0)
    folder = directory / f"snapshot_{broken.snapshot_id}"
    (folder / "metadata.json").write_bytes(content)
    reopened = CheckpointRegistry(directory, max_snapshots=1)
    assert scores(reopened) == [1]
    assert "its metadata cannot be read" in caplog.text
    save(reopened, 3.0)
    assert folder.exists()


def test_a_moved_directory_works(registry, directory, tmp_path, monkeypatch):
    save(registry, 1.0)
    save(registry, 2.0)
    moved = tmp_path / "elsewhere" / "kept"
    moved.parent.mkdir()
    directory.rename(moved)
    for path in moved.rglob("*.json"):
        assert str(tmp_path) not in path.read_text()
    monkeypatch.chdir(moved.parent)
    agent = ArrayAgent()
    assert Path(CheckpointRegistry("kept").load_best(agent).weights_path).parent.parent == moved
    assert agent.weights.tolist() == [2, 2, 2]


def fail_at(monkeypatch, owner, name, turn):
    """Make the call number `turn` of a function fail as a full disk does."""
    original = getattr(owner, name)
    calls = iter(range(1_000_000))

    def wrapper(*args, **kwargs):
        if next(calls) == turn:
            raise OSError(errno.ENOSPC, "no space left on device")
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapper)


@pytest.mark.parametrize(
    ("owner", "name", "turn"),
    [(os, "fsync", turn) for turn in range(6)]
    + [(os, "replace", 0), (os, "rename", 0), (json, "dump", 0), (json, "dump", 1)],
)
def test_a_refused_write_leaves_everything_as_it_was(
    registry, directory, monkeypatch, owner, name, turn
):
    save(registry, 1.0)
    before = listing(directory)
    with monkeypatch.context() as patch:
        fail_at(patch, owner, name, turn)
        if (name, turn) == ("fsync", 5):
            # The last flush comes when all is in place: it is reported, not fatal.
            save(registry, 2.0)
            assert scores(registry) == [2, 1]
            return
        with pytest.raises(OSError, match="no space left"):
            save(registry, 2.0)
    assert listing(directory) == before
    assert scores(registry) == scores(CheckpointRegistry(directory)) == [1]
    save(registry, 3.0)
    assert scores(registry) == [3, 1]


def test_a_commit_can_be_repeated_after_a_refused_write(registry, monkeypatch):
    staged = registry.stage(ArrayAgent(4))
    with monkeypatch.context() as patch:
        fail_at(patch, os, "replace", 0)
        with pytest.raises(OSError, match="no space left"):
            registry.commit(staged, evaluation(1.0), HyperparamSet({}))
    registry.commit(staged, evaluation(1.0), HyperparamSet({}))
    agent = ArrayAgent()
    registry.load_best(agent)
    assert agent.weights.tolist() == [4, 4, 4]


# ---- leftovers


@pytest.fixture(scope="module")
def dead_process():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def leftover(registry, pid=None, process=None):
    """A staging directory as another process would have named it."""
    staged = registry.stage(ArrayAgent())
    prefix, host, own_pid, own_process, tail = staged.path.name.split("_")
    name = "_".join([prefix, host, str(pid or own_pid), process or own_process, tail])
    return staged.path.rename(staged.path.with_name(name))


def test_staging_of_dead_processes_is_cleaned_and_of_live_ones_is_not(
    registry, directory, dead_process
):
    dead = leftover(registry, pid=dead_process)
    same_number = leftover(registry, process="0" * 8)
    live_other = leftover(registry, pid=os.getppid())
    own = leftover(registry)
    reopened = CheckpointRegistry(directory)
    assert reopened.snapshots == []
    assert dead.exists()
    save(reopened, 1.0)
    assert [path.exists() for path in (dead, same_number, live_other, own)] == [
        False,
        False,
        True,
        True,
    ]


def test_nothing_is_deleted_that_the_registry_did_not_write(registry, directory):
    directory.mkdir()
    foreign = [".staging_mine", "snapshot_best", "snapshot_12345678", "notes.txt", ".hidden"]
    for name in foreign[:3]:
        (directory / name).mkdir()
        (directory / name / "data").write_text("keep")
    for name in foreign[3:]:
        (directory / name).write_text("keep")
    registry = CheckpointRegistry(directory, max_snapshots=1)
    for score in (1.0, 2.0, 3.0):
        save(registry, score)
    assert all((directory / name).exists() for name in foreign)
    assert len(registry.snapshots) == 1


def test_a_snapshot_that_cannot_be_deleted_does_not_stop_the_saving(directory, monkeypatch, caplog):
    registry = CheckpointRegistry(directory, max_snapshots=1)
    save(registry, 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path: fail_with_busy())
        save(registry, 2.0)
    assert "could not remove" in caplog.text
    assert scores(registry) == [2]


def fail_with_busy():
    raise OSError(errno.EBUSY, "busy")


# ---- security


def test_no_checkpoint_module_can_unpickle():
    core = Path(sys.modules[CheckpointRegistry.__module__].__file__).parent
    modules = [core / "checkpoint_registry.py", *(core / "checkpoints").glob("*.py")]
    assert len(modules) > 3
    for module in modules:
        assert "import pickle" not in module.read_text()


def test_logging_is_the_only_output(registry, capsys, caplog):
    with caplog.at_level(logging.DEBUG):
        save(registry, math.nan)
    assert capsys.readouterr() == ("", "")
