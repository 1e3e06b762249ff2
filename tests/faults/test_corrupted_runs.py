"""Run directories that a disk or a person has altered: each is a clean error, or what is sound is taken."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tensor_optix
from tensor_optix.core.checkpoints.durable_files import seal
from tensor_optix.core.checkpoints.saved_state import CheckpointError
from tensor_optix.core.checkpoints.snapshot_store import SnapshotError
from tensor_optix.runs.run_directory import RunDirectoryError
from tests.core.test_run_checkpoints import seal as seal_manifest
from tests.faults.lasting_run import make_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WINDOWS = 4
CLEAN = (CheckpointError, SnapshotError, RunDirectoryError)
ALGORITHMS = {"ppo": (4,), "dqn": (4,), "sac": (3,)}
"""And the shape of an observation."""
PATIENCE_SECONDS = 30
FEW, MANY = 8, 340
"""Corruptions of each algorithm: 1,020 in all where there is time."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each algorithm."""
    places = {}
    for algorithm in ALGORITHMS:
        places[algorithm] = tmp_path_factory.mktemp(algorithm) / "run"
        make_run(str(places[algorithm]), algorithm, "native", max_episodes=WINDOWS).run()
    return places


@contextmanager
def in_time() -> Iterator[None]:
    """Let what hangs fail."""

    def too_late(number: int, frame: Any) -> None:
        raise AssertionError(f"it took more than {PATIENCE_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


VALUES = [None, -1, 0, 1, 1e300, 2**70, "", "x" * 99, "../../x", "/dev/zero", [], {}, [[]], True]


def altered(value: Any, rng: random.Random) -> Any:
    """Return a JSON value with one thing in it that is something else."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        if rng.random() < 0.2:
            return {name: one for name, one in value.items() if name != key}
        return value | {key: altered(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        return [*value[:place], altered(value[place], rng), *value[place + 1 :]]
    return rng.choice(VALUES)


def corrupt(path: Path, others: list[Path], rng: random.Random) -> str:
    """Do something to a file that a disk or a person might do; return what."""
    content = bytearray(path.read_bytes())
    kind = rng.choice(["bits", "cut", "gone", "other", "swapped", "link", "folder", "json", "json"])
    match kind:
        case "bits" if content:
            for _ in range(rng.randint(1, 8)):
                content[rng.randrange(len(content))] = rng.randrange(256)
            path.write_bytes(content)
        case "cut":
            path.write_bytes(content[: rng.randrange(len(content) + 1)])
        case "other":
            path.write_bytes(rng.randbytes(rng.randrange(2000)))
        case "swapped":
            path.write_bytes(rng.choice(others).read_bytes())
        case "link":
            path.unlink()
            path.symlink_to(rng.choice(["/dev/zero", "/etc/passwd", "nowhere"]))
        case "folder":
            path.unlink()
            path.mkdir()
        case "json" if path.suffix == ".json":
            path.write_text(json.dumps(altered(json.loads(content), rng)))
        case _:
            kind = "gone"
            path.unlink()
    return f"{kind}: {path}"


def repair_hashes(run: Path) -> None:
    """Make the hashes of all checkpoints and snapshots those of their files, as somebody hostile would."""
    for manifest in run.glob("state/ckpt_*/manifest.json"):
        try:
            content = json.loads(manifest.read_text())["manifest"]
            for name in content["files"]:
                content["files"][name] = seal(manifest.parent / name)
        except (OSError, ValueError, LookupError, TypeError):
            continue
        seal_manifest(manifest.parent, content)
    for path in run.glob("checkpoints/snapshot_*/metadata.json"):
        try:
            metadata = json.loads(path.read_text())
            metadata.pop("metadata_sha256", None)
            for name in metadata["files"]:
                metadata["files"][name] = seal(path.parent / name)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
        path.write_text(json.dumps(metadata))


def use(run: Path, algorithm: str) -> set[str]:
    """Do with a run what people do; return what came of it."""
    outcomes = set()
    with in_time():
        with refused_cleanly(run, outcomes, "not loaded"):
            policy = tensor_optix.load(run)
            policy.predict(np.zeros(ALGORITHMS[algorithm], np.float32))
            outcomes.add("loaded")
        with refused_cleanly(run, outcomes, "not resumed"):
            make_run(str(run), algorithm, "native", max_episodes=WINDOWS + 1).run()
            outcomes.add("resumed")
    return outcomes


@contextmanager
def refused_cleanly(run: Path, outcomes: set[str], outcome: str) -> Iterator[None]:
    """Let pass what says that a file is damaged, or which file holds another agent's weights."""
    try:
        yield
    except CLEAN:
        outcomes.add(outcome)
    except ValueError as error:
        if f"{run}/" not in str(error):
            raise
        outcomes.add(outcome)


def corrupt_and_use(run: Path, algorithm: str, place: Path, times: int, seed: int) -> None:
    rng, outcomes = random.Random(seed), set[str]()
    for number in range(times):
        copied = place / str(number)
        shutil.copytree(run, copied)
        files = sorted(path for path in copied.rglob("*") if path.is_file())
        done = corrupt(rng.choice(files), files, rng)
        if rng.random() < 0.5:
            repair_hashes(copied)
        try:
            outcomes |= use(copied, algorithm)
        except BaseException as error:
            error.add_note(f"corruption {number} of {algorithm}, seed {seed}: {done}")
            raise
        shutil.rmtree(copied)
    assert {"loaded", "resumed"} <= outcomes


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_few_corruptions_are_clean_errors_or_passed_over(
    algorithm: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    corrupt_and_use(runs[algorithm], algorithm, tmp_path, FEW, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_thousand_corruptions_are_clean_errors_or_passed_over(
    algorithm: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    corrupt_and_use(runs[algorithm], algorithm, tmp_path, MANY, seed=2)


def test_a_hostile_file_runs_nothing(runs: dict[str, Path], tmp_path: Path) -> None:
    """A pickle in the place of a file is never read as one."""
    import pickle

    class Hostile:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "it ran"),))

    run = runs["dqn"]
    names = [path.relative_to(run) for path in sorted(run.rglob("*")) if path.is_file()]
    for number, name in enumerate(names[::3]):
        copied = tmp_path / str(number)
        shutil.copytree(run, copied)
        (copied / name).write_bytes(pickle.dumps(Hostile()))
        repair_hashes(copied)
        use(copied, "dqn")
        shutil.rmtree(copied)
    assert not (tmp_path / "it ran").exists()
