"""Snapshots that somebody altered, on purpose or not: an error that says so, or another snapshot."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import pickle
import shutil
import signal
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix import make_agent
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.checkpoints.saved_state import CheckpointError
from tensor_optix.core.checkpoints.snapshot_store import SnapshotError
from tensor_optix.core.types import EvalMetrics
from tests.core.array_agent import ArrayAgent, save, scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(os.name != "posix", reason="makes links, pipes and alarms")

CORRUPTIONS = 150
"""Of each agent's checkpoints."""
SECONDS = 20
"""After which a load counts as one that hangs."""
ENVIRONMENTS = {"ppo": "CartPole-v1", "sac": "Pendulum-v1"}
HOSTILE_VALUES: list[Any] = [
    *(None, True, "", "x", [], {}, -1, 0, 2.5, 1e308, 10**30, float("nan"), float("inf")),
    *("../../x", {"$float": "nan"}, {"$tuple": 3}, {"$tuple": [1]}, [[[]]], {"a": {"b": []}}),
    *(["x", None], [1, [2]], 10**400),
]


# ---- directories that somebody altered


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def registry(directory: Path) -> CheckpointRegistry:
    """One with snapshots of scores 1 and 2."""
    registry = CheckpointRegistry(directory)
    save(registry, 1.0)
    save(registry, 2.0)
    return registry


def best_folder(registry: CheckpointRegistry) -> Path:
    assert registry.best is not None
    return Path(registry.best.weights_path).parent


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change metadata, and make them hold together again."""
    path = folder / "metadata.json"
    metadata = json.loads(path.read_text())
    change(metadata)
    path.write_text(json.dumps(with_digest(metadata)))


def with_digest(metadata: dict[str, Any]) -> dict[str, Any]:
    content = {name: value for name, value in metadata.items() if name != "metadata_sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return content | {"metadata_sha256": hashlib.sha256(text.encode()).hexdigest()}


def mark(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize("name", ["../../secret", "weights/../../../secret", "link", "ABSOLUTE"])
def test_a_listed_name_that_leads_out_is_refused_though_its_hash_is_right(
    registry: CheckpointRegistry, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    folder = best_folder(registry)
    (folder / "link").symlink_to(secret)
    listed = str(secret) if name == "ABSOLUTE" else name
    edited(folder, lambda metadata: metadata["files"].update({listed: mark(secret)}))
    reopened = CheckpointRegistry(registry.directory)
    assert reopened.best is not None
    with pytest.raises(SnapshotError, match="must name a regular file"):
        reopened.load(reopened.best, ArrayAgent())
    loaded = reopened.load_best(agent := ArrayAgent())
    assert loaded is not None
    assert agent.weights.tolist() == [1, 1, 1]
    assert caplog.text.count("skipping a damaged checkpoint") == 1


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "link"])
@pytest.mark.parametrize("file", ["weights/weights.npy", "metadata.json"])
def test_what_is_no_regular_file_is_neither_opened_nor_hashed(
    registry: CheckpointRegistry, tmp_path: Path, kind: str, file: str
) -> None:
    folder = best_folder(registry)
    path = folder / file
    aside = path.rename(tmp_path / "aside")
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(aside)
    if file != "metadata.json":
        edited(folder, lambda metadata: metadata["files"].update({file: {"size": 0, "sha256": ""}}))
    with in_time():
        loaded = CheckpointRegistry(registry.directory).load_best(agent := ArrayAgent())
    assert loaded is not None
    assert agent.weights.tolist() == [1, 1, 1]


def test_a_link_on_the_way_is_refused(registry: CheckpointRegistry, tmp_path: Path) -> None:
    weights = best_folder(registry) / "weights"
    weights.rename(tmp_path / "weights")
    weights.symlink_to(tmp_path / "weights")
    snapshot = registry.best
    assert snapshot is not None
    with pytest.raises(SnapshotError, match="on the way"):
        registry.load(snapshot, ArrayAgent())


@pytest.mark.parametrize("name", ["weights/agent.json", "extra", "weights/deep/folder/file"])
def test_a_file_that_was_not_saved_with_it_is_refused(
    registry: CheckpointRegistry, name: str
) -> None:
    path = best_folder(registry) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    snapshot = registry.best
    assert snapshot is not None
    with pytest.raises(SnapshotError, match=f"{name} was not saved with it"):
        registry.load(snapshot, ArrayAgent())
    path.unlink()
    registry.load(snapshot, ArrayAgent())


def test_what_desktops_and_network_drives_leave_does_no_harm(registry: CheckpointRegistry) -> None:
    (best_folder(registry) / "weights" / ".DS_Store").write_bytes(b"\0")
    (best_folder(registry) / ".nfs0001").write_bytes(b"\0")
    registry.load_best(agent := ArrayAgent())
    assert agent.weights.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("before", "after"),
    [('"score": 2.0', '"score": 9.0'), ('"learning_rate": 0.1', '"learning_rate": 0.9')],
)
def test_a_digit_of_the_metadata_that_was_altered_shows(
    registry: CheckpointRegistry, before: str, after: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = best_folder(registry) / "metadata.json"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    reopened = CheckpointRegistry(registry.directory)
    assert scores(reopened) == scores(reopened) == [1]
    assert caplog.text.count("it is not what was saved") == 1


def test_metadata_that_were_rewritten_hold_together(registry: CheckpointRegistry) -> None:
    first, second = registry.snapshots
    registry.reorder([(second, 3.0), (first, 2.0)])
    reopened = CheckpointRegistry(registry.directory)
    assert [one.snapshot_id for one in reopened.snapshots] == [
        second.snapshot_id,
        first.snapshot_id,
    ]


def test_snapshots_of_earlier_versions_are_read(registry: CheckpointRegistry) -> None:
    for path in registry.directory.glob("snapshot_*/metadata.json"):
        metadata = json.loads(path.read_text())
        del metadata["metadata_sha256"]
        path.write_text(json.dumps(metadata))
    reopened = CheckpointRegistry(registry.directory)
    assert scores(reopened) == [2, 1]
    assert reopened.load_best(ArrayAgent()) is not None


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"hyperparams": ' + "[" * 400 + "]" * 400 + "}",
        "9" * 5000,
        "\x00" * 100,
    ],
)
@pytest.mark.parametrize("name", ["metadata.json", "../manifest.json"])
def test_one_bad_file_does_not_hide_the_sound_ones(
    registry: CheckpointRegistry, text: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (best_folder(registry) / name).write_text(text)
    with caplog.at_level(logging.WARNING):
        reopened = CheckpointRegistry(registry.directory)
        assert scores(reopened) == scores(reopened) == ([1] if name == "metadata.json" else [2, 1])
    assert len(caplog.records) == 1
    save(reopened, 3.0)
    assert reopened.load_best(ArrayAgent()) is not None


def test_metadata_of_a_terabyte_are_not_read(registry: CheckpointRegistry) -> None:
    with (best_folder(registry) / "metadata.json").open("r+b") as file:
        file.truncate(2**40)
    assert scores(CheckpointRegistry(registry.directory)) == [1]


@pytest.mark.parametrize("name", ["run_id", "sequence", "files", "metrics", "hyperparams", "score"])
@pytest.mark.parametrize("value", [[[1, 2]], {"$tuple": [1]}, None, [], "x", 1e999])
def test_metadata_of_other_types_are_ignored(
    registry: CheckpointRegistry, name: str, value: Any
) -> None:
    edited(best_folder(registry), lambda metadata: metadata.update({name: value}))
    reopened = CheckpointRegistry(registry.directory)
    with suppress(SnapshotError):
        for snapshot in reopened.snapshots:
            reopened.load(snapshot, ArrayAgent())
    assert reopened.load_best(ArrayAgent()) is not None
    save(reopened, 3.0)


def test_an_agent_that_writes_a_link_is_told_when_it_is_saved(tmp_path: Path) -> None:
    class Linking(ArrayAgent):
        def save_weights(self, path: Any) -> None:
            super().save_weights(path)
            os.symlink(tmp_path, os.path.join(path, "link"))

    registry = CheckpointRegistry(tmp_path / "checkpoints")
    with pytest.raises(ValueError, match="'weights/link' must name a regular file"):
        registry.save(Linking(), EvalMetrics(1.0, {}, 0), Linking().get_hyperparams())
    assert list((tmp_path / "checkpoints").iterdir()) == []


# ---- what is inside the files of agents


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each algorithm a directory with snapshots of scores 1 and 2."""
    found = {}
    for algorithm in ENVIRONMENTS:
        found[algorithm] = tmp_path_factory.mktemp(algorithm) / "checkpoints"
        registry = CheckpointRegistry(found[algorithm])
        for score in (1, 2):
            agent = small_agent(algorithm, score)
            registry.save(agent, EvalMetrics(float(score), {}, score), agent.get_hyperparams())
    return found


def small_agent(algorithm: str, seed: int) -> Any:
    return make_agent(
        ENVIRONMENTS[algorithm],
        algorithm,
        "native",
        hidden_sizes=(4,),
        seed=seed,
        normalize_observations=True,
        normalize_rewards=True,
    )


@contextmanager
def in_time() -> Iterator[None]:
    """End what hangs."""

    def give_up(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def weights_of(agent: Any, directory: Path) -> dict[str, bytes]:
    agent.save_state(directory)
    found = {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
    shutil.rmtree(directory)
    return found


def npz_of(header: bytes, data: bytes = b"", compression: int = zipfile.ZIP_STORED) -> bytes:
    """An npz whose arrays have a header of one's own."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name in ("mean", "var", "count"):
            padded = header.ljust(117) + b"\n"
            content = b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + data
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


HUGE = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1250000000,), }"
SMALL = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }"
OBJECT = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
DEEP = b"[" * 100_000
FILES: list[tuple[str, bytes]] = [
    ("obs_normalizer.npz", npz_of(HUGE)),
    ("obs_normalizer.npz", npz_of(SMALL, bytes(8 * 2**20), zipfile.ZIP_DEFLATED)),
    ("obs_normalizer.npz", npz_of(OBJECT, pickle.dumps([1]))),
    ("obs_normalizer.npz", npz_of(b"[" * 9000)),
    ("obs_normalizer.npz", npz_of(SMALL, bytes(8))),
    ("obs_normalizer.npz", b""),
    ("obs_normalizer.npz", pickle.dumps([1])),
    ("reward_normalizer.npz", npz_of(HUGE)),
    ("reward_normalizer.npz", b"PK\x05\x06" + bytes(18)),
    ("agent.json", DEEP),
    ("agent.json", b"[]"),
    ("agent.json", b"{}"),
    ("agent.json", b'{"rng": 3}'),
    ("agent.json", b'{"rng": {"bit_generator": "MT19937"}, "minibatches": -1, "steps": "x"}'),
    ("NETWORK", b""),
    ("NETWORK", b"\xff" * 8 + b"{}"),
    ("NETWORK", (2).to_bytes(8, "little") + b"{}"),
    ("OPTIMIZER", b"\x00"),
    ("OPTIMIZER", (10_000).to_bytes(8, "little") + DEEP[:10_000]),
]


@pytest.mark.parametrize("algorithm", ENVIRONMENTS)
@pytest.mark.parametrize("case", range(len(FILES)))
def test_a_hostile_file_of_an_agent_is_an_error_that_names_it_and_changes_nothing(
    stored: dict[str, Path], algorithm: str, case: int, tmp_path: Path
) -> None:
    name, content = FILES[case]
    is_optimizer = name == "OPTIMIZER"
    agent = small_agent(algorithm, 7)
    agent.save_state(tmp_path / "state")
    networks = {f"{one}.safetensors" for one in agent.num_weights}
    if name in ("NETWORK", "OPTIMIZER"):
        found = sorted(path.name for path in (tmp_path / "state").glob("*.safetensors"))
        others = [one for one in found if "optimizer" in one]
        name = others[0] if is_optimizer else max(networks)
    (tmp_path / "state" / name).write_bytes(content)
    before = weights_of(agent, tmp_path / "before")
    with in_time(), pytest.raises((CheckpointError, ValueError)) as caught:
        agent.load_state(tmp_path / "state")
    if isinstance(caught.value, CheckpointError):
        assert name in str(caught.value)
    if not is_optimizer:
        assert weights_of(agent, tmp_path / "after") == before


@pytest.mark.parametrize("algorithm", ENVIRONMENTS)
def test_a_missing_file_of_an_agent_is_named(algorithm: str, tmp_path: Path) -> None:
    agent = small_agent(algorithm, 7)
    agent.save_state(tmp_path / "state")
    name = f"{max(agent.num_weights)}.safetensors"
    (tmp_path / "state" / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} cannot be read: FileNotFoundError"):
        agent.load_state(tmp_path / "state")


@pytest.mark.parametrize("text", [b"[" * 100_000, b"null", b"-1", b"NaN", b'"x"', b"{}"])
def test_a_hostile_unit_of_rewards_is_an_error(text: bytes, tmp_path: Path) -> None:
    agent = small_agent("ppo", 7)
    agent.save_state(tmp_path)
    (tmp_path / "reward_unit.json").write_bytes(text)
    with pytest.raises(CheckpointError, match=r"reward_unit\.json cannot be read"):
        agent.load_weights(tmp_path)


def test_normalizers_are_written_without_other_arrays(tmp_path: Path) -> None:
    """NumPy 2.0 has no argument allow_pickle of savez, and would take it for an array."""
    small_agent("ppo", 7).save_state(tmp_path)
    with np.load(tmp_path / "obs_normalizer.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"mean", "var", "count"}


class Payload:
    """What runs code where somebody unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (os.mkdir, (self.path,))


class Corruption:
    """Alters one thing in a checkpoint directory, at random.

    Args:
        directory: Of two snapshots.
        rng: Draws what.
        trap: What unpickled code would make.
    """

    def __init__(self, directory: Path, rng: np.random.Generator, trap: Path) -> None:
        self._rng = rng
        self._trap = trap
        folders = sorted(directory.glob("snapshot_*"))
        self.folder = folders[rng.integers(len(folders))]
        self._files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        self.is_repaired = bool(rng.integers(2))

    def make(self) -> str:
        """Make one, and where hashes are to be right make them so; return what it was."""
        kinds = [self._flip, self._truncate, self._delete, self._swap, self._edit, self._replace]
        kind = kinds[self._rng.integers(len(kinds))]
        path = self._files[self._rng.integers(len(self._files))]
        kind(path)
        if self.is_repaired:
            with suppress(
                OSError, ValueError, AttributeError, LookupError, TypeError, RecursionError
            ):
                self._repair()
        return f"{kind.__name__} of {path.name}, {self.is_repaired=}"

    def _flip(self, path: Path) -> None:
        content = bytearray(path.read_bytes())
        for _ in range(self._rng.integers(1, 5)):
            content[self._rng.integers(len(content))] ^= 1 << self._rng.integers(8)
        path.write_bytes(content)

    def _truncate(self, path: Path) -> None:
        os.truncate(path, self._rng.integers(path.stat().st_size))

    def _delete(self, path: Path) -> None:
        path.unlink()

    def _swap(self, path: Path) -> None:
        other = self._files[self._rng.integers(len(self._files))]
        mine, theirs = path.read_bytes(), other.read_bytes()
        path.write_bytes(theirs)
        other.write_bytes(mine)

    def _edit(self, _: Path) -> None:
        texts = [path for path in self._files if path.suffix == ".json"]
        path = texts[self._rng.integers(len(texts))]
        tree = json.loads(path.read_text())
        node, key = tree, ""
        while isinstance(node, dict) and node:
            parent, key = node, sorted(node)[self._rng.integers(len(node))]
            node = parent[key]
        parent[key] = HOSTILE_VALUES[self._rng.integers(len(HOSTILE_VALUES))]
        path.write_text(json.dumps(tree))

    def _replace(self, path: Path) -> None:
        path.unlink()
        kind = self._rng.integers(5)
        if kind == 0:
            os.mkfifo(path)
        elif kind == 1:
            path.symlink_to("/dev/zero")
        elif kind == 2:
            path.mkdir()
        elif kind == 3:
            path.write_bytes(DEEP)
        else:
            path.write_bytes(pickle.dumps(Payload(self._trap)))

    def _repair(self) -> None:
        path = self.folder / "metadata.json"
        if not path.is_file() or path.is_symlink():
            return
        metadata = json.loads(path.read_text())
        for name in list(metadata["files"]):
            if (self.folder / name).is_file() and not (self.folder / name).is_symlink():
                metadata["files"][name] = mark(self.folder / name)
            else:
                del metadata["files"][name]
        path.write_text(json.dumps(with_digest(metadata)))


@pytest.mark.parametrize("algorithm", ENVIRONMENTS)
def test_whatever_is_altered_gives_an_error_or_another_snapshot(
    stored: dict[str, Path], algorithm: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    agent = small_agent(algorithm, 9)
    sound = {}
    for snapshot in CheckpointRegistry(stored[algorithm]).snapshots:
        agent.load_state(snapshot.weights_path)
        sound[snapshot.eval_metrics.primary_score] = weights_of(agent, tmp_path / "look")
    trap = tmp_path / "trap"
    outcomes = {True: 0, False: 0}
    for number in range(CORRUPTIONS):
        directory = tmp_path / "altered"
        shutil.copytree(stored[algorithm], directory)
        corruption = Corruption(directory, rng, trap)
        what = f"{number}: {corruption.make()}"
        with in_time():
            loaded = load_all(CheckpointRegistry(directory), agent, corruption.is_repaired, what)
        outcomes[loaded is not None] += 1
        if loaded is not None and not corruption.is_repaired:
            # The best of what is sound, as it was saved.
            agent.load_state(loaded.weights_path)
            score = loaded.eval_metrics.primary_score
            assert weights_of(agent, tmp_path / "look") == sound[score], what
        assert loaded is not None or corruption.is_repaired, what
        assert not trap.exists(), what
        shutil.rmtree(directory)
    assert outcomes[True] > CORRUPTIONS / 2


def load_all(registry: CheckpointRegistry, agent: Any, is_repaired: bool, what: str) -> Any:
    """Load the best snapshot, and then each by name; None where the best is not for this agent."""
    # What holds together but does not fit the agent is its error to tell, as it is without damage.
    expected = (CheckpointError, ValueError) if is_repaired else SnapshotError
    try:
        for snapshot in registry.snapshots:
            with suppress(expected):
                registry.load(snapshot, agent)
        return registry.load_best(agent)
    except ValueError:
        assert is_repaired, what
        return None
    except Exception as error:
        raise AssertionError(what) from error
