"""Replays in the files of checkpoints: whatever happened between two of them, the whole state comes back."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensor_optix.core.checkpoints.saved_state import CheckpointError, read_state, write_state
from tensor_optix.core.replay import segments
from tensor_optix.core.replay.segments import ReplayFiles, ReplayMoved
from tensor_optix.core.replay_buffer import PrioritizedReplayBuffer, ReplayBuffer

if TYPE_CHECKING:
    from pathlib import Path

MOST_SEGMENTS = 32


class Source:
    """Transitions of several environments, whose episodes end now and then."""

    def __init__(self, num_envs: int, frames: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.num_envs, self.frames = num_envs, frames
        self.seen = self._fresh()

    def _fresh(self) -> Any:
        shape = (self.num_envs, self.frames, 2) if self.frames > 1 else (self.num_envs, 3)
        return self.rng.integers(0, 255, shape).astype(np.uint8 if self.frames > 1 else np.float32)

    def step(self, buffer: PrioritizedReplayBuffer, is_cut: bool = False) -> None:
        rng, n = self.rng, self.num_envs
        if self.frames > 1:
            newest = rng.integers(0, 255, (n, 1, 2)).astype(np.uint8)
            after = np.concatenate([self.seen[:, 1:], newest], axis=1)
        else:
            after = self._fresh()
        terminated, truncated = rng.random(n) < 0.1, rng.random(n) < 0.05
        actions = rng.integers(0, 4, n)
        rewards = rng.normal(size=n).astype(np.float32)
        ids = np.sort(rng.permutation(n)[: rng.integers(1, n + 1)])
        rows = (self.seen, actions, rewards, after, terminated, truncated)
        buffer.extend(*(row[ids] for row in rows), ids)
        over = terminated | truncated | is_cut
        fresh = self._fresh()
        self.seen = self.seen.copy()
        for env in ids:
            self.seen[env] = fresh[env] if over[env] else after[env]


def buffer(num_envs: int, n_step: int, frames: int, capacity: int = 40) -> PrioritizedReplayBuffer:
    return PrioritizedReplayBuffer(
        capacity,
        alpha=0.6,
        n_step=n_step,
        num_envs=num_envs,
        frame_stack=frames if frames > 1 else None,
        seed=1,
    )


def assert_same(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for name in one:
        mine, yours = one[name], other[name]
        assert (mine.dtype, mine.shape) == (yours.dtype, yours.shape), name
        assert mine.tobytes() == yours.tobytes(), name


def keep(files: ReplayFiles, rows: ReplayBuffer) -> Any:
    """Write a buffer's rows and the rest of it; return the entry as a manifest has it."""
    return write(files, files.draft("r", rows))


def write(files: ReplayFiles, draft: segments.ReplayDraft) -> Any:
    files.directory.mkdir(exist_ok=True)
    return json.loads(json.dumps(files.write(draft, files.directory / "rest")))


def read(files: ReplayFiles, entry: Any) -> Any:
    return files.read("r", entry, files.directory / "rest")


def read_anew(files: ReplayFiles, entry: Any) -> Any:
    return read(ReplayFiles(files.directory), entry)


ACTIONS = st.lists(
    st.sampled_from(["step"] * 8 + ["cut", "sample", "keep", "keep", "resume", "lose"]),
    min_size=5,
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(
    actions=ACTIONS,
    num_envs=st.integers(1, 3),
    n_step=st.integers(1, 3),
    frames=st.sampled_from([1, 1, 3]),
    copied=st.sampled_from([1, 2, 100]),
    seed=st.integers(0, 2**16),
)
def test_a_buffer_comes_back_as_it_was_drafted(
    actions: list[str],
    num_envs: int,
    n_step: int,
    frames: int,
    copied: int,
    seed: int,
    tmp_path_factory: Any,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "_MARGIN", copied)
        patch.setattr(segments, "_CHUNK_BYTES", 100)
        patch.setattr(segments, "_MARGIN_BYTES", 100)
        patch.setattr(segments, "_SMALL", 10)
        source = Source(num_envs, frames, seed)
        rows = buffer(num_envs, n_step, frames)
        follow([*actions, "keep"], rows, source, tmp_path_factory.mktemp("replay"))


def follow(
    actions: list[str], rows: PrioritizedReplayBuffer, source: Source, directory: Path
) -> None:
    files, entry, state = ReplayFiles(directory), None, None
    for action in actions:
        match action:
            case "step" | "cut":
                source.step(rows, action == "cut")
            case "sample" if len(rows):
                drawn = rows.sample(4)
                rows.update_priorities(drawn.indices, source.rng.normal(size=4))
            case "keep" | "lose":
                draft, then = files.draft("r", rows), rows.state_dict()
                for _ in range(source.rng.integers(0, 3)):
                    source.step(rows)
                path = directory / action
                try:
                    written = files.write(draft, path)
                except ReplayMoved:
                    continue
                if action == "keep":  # else it was written, but its checkpoint was not
                    entry, state = json.loads(json.dumps(written)), then
                    files.remove_unused([entry])
                    path.with_suffix(".json").replace(directory / "rest.json")
                    path.with_suffix(".safetensors").replace(directory / "rest.safetensors")
            case "resume" if entry is not None:
                files = ReplayFiles(directory)
                rows = buffer(source.num_envs, rows.n_step, source.frames)
                rows.load_state_dict(read(files, entry))
                source.seen = source._fresh()
        if entry is not None:
            assert_same(read_anew(files, entry), state)
            assert len(entry["segments"]) <= MOST_SEGMENTS


def filled(steps: int = 300, capacity: int = 200) -> tuple[PrioritizedReplayBuffer, Source]:
    rows, source = buffer(2, 1, 1, capacity), Source(2, 1, 0)
    for _ in range(steps):
        source.step(rows)
    return rows, source


def step_all(rows: ReplayBuffer, value: float, envs: list[int]) -> None:
    """Write one row of each of some environments, of an episode that goes on."""
    n = len(envs)
    now, flags = np.full((n, 3), value, np.float32), np.zeros(n, bool)
    rows.extend(now, np.zeros(n, np.int64), np.ones(n, np.float32), now + 1, flags, flags, envs)


def counts(entry: Any) -> list[int]:
    return [one["count"] for one in entry["segments"]]


def test_what_is_written_is_what_is_new(tmp_path: Path) -> None:
    rows, _ = filled()
    files = ReplayFiles(tmp_path)
    first = keep(files, rows)
    for t in range(5):
        step_all(rows, t, [0, 1])
    second = keep(files, rows)
    assert second["segments"][0] == first["segments"][0]
    assert counts(second) == [101, 5 + 1 + 1]


def test_a_resumed_run_writes_what_is_new(tmp_path: Path) -> None:
    rows, _ = filled()
    first = keep(ReplayFiles(tmp_path), rows)
    files, resumed = ReplayFiles(tmp_path), buffer(2, 1, 1, 200)
    resumed.load_state_dict(read(files, first))
    step_all(resumed, 1.0, [0, 1])
    second = keep(files, resumed)
    assert counts(second) == [101, 1 + 1 + 1]
    assert_same(read_anew(files, second), resumed.state_dict())


def test_other_rows_than_those_that_were_read_are_written_whole(tmp_path: Path) -> None:
    rows, _ = filled()
    first = keep(ReplayFiles(tmp_path), rows)
    files, others = ReplayFiles(tmp_path), buffer(2, 1, 1, 200)
    read(files, first)
    others.load_state_dict(filled(310)[0].state_dict())
    entry = keep(files, others)
    assert counts(entry) == [101]
    assert_same(read_anew(files, entry), others.state_dict())


def test_a_buffer_that_is_loaded_twice_is_written_whole(tmp_path: Path) -> None:
    rows, source = filled()
    files = ReplayFiles(tmp_path)
    state = read(files, keep(files, rows))
    rows.load_state_dict(state)
    for _ in range(8):
        source.step(rows)
    keep(files, rows)
    rows.load_state_dict(state)
    for t in range(9):
        step_all(rows, t, [0, 1])
    entry = keep(files, rows)
    assert counts(entry) == [101]
    assert_same(read_anew(files, entry), rows.state_dict())


def test_old_segments_become_one_and_those_written_over_are_dropped(tmp_path: Path) -> None:
    rows, _ = filled(capacity=800)
    files, lengths, written = ReplayFiles(tmp_path), [], 0
    for t in range(600):
        step_all(rows, t, [0, 1])
        entry = keep(files, rows)
        files.remove_unused([entry])
        lengths.append(len(entry["segments"]))
        written += counts(entry)[-1]
    assert max(lengths) <= MOST_SEGMENTS
    assert sum(counts(entry)) < 2 * 401
    assert written < 600 * 7  # 9,300 if all were written anew each 32nd time
    assert_same(read_anew(files, entry), rows.state_dict())
    assert len(list(tmp_path.glob("rows_*"))) == len(entry["segments"])


def test_an_empty_buffer_and_one_begun_anew_are_kept(tmp_path: Path) -> None:
    files, empty = ReplayFiles(tmp_path), buffer(2, 1, 1)
    assert_same(read(files, keep(files, empty)), empty.state_dict())
    keep(files, filled()[0])
    other, _ = filled(20)
    assert_same(read_anew(files, keep(files, other)), other.state_dict())
    assert_same(read_anew(files, keep(files, empty)), empty.state_dict())


def test_a_buffer_without_priorities_in_a_file_of_its_own_is_kept(tmp_path: Path) -> None:
    files = ReplayFiles(tmp_path)
    rows = ReplayBuffer(50, num_envs=2, memory_map=tmp_path / "ring", seed=0)
    for t in range(60):
        step_all(rows, t, [0, 1])
        if t % 7 == 0:
            assert_same(read_anew(files, keep(files, rows)), rows.state_dict())
    assert (tmp_path / "ring").exists()


def test_big_endian_observations_come_back_as_they_were(tmp_path: Path) -> None:
    rows, files = ReplayBuffer(20, num_envs=1, seed=0), ReplayFiles(tmp_path)
    for t in range(5):
        now = np.full((1, 3), t, ">f4")
        rows.extend(now, [0], [1.0], (now + 1).astype(">f4"), [False], [False])
    assert_same(read(files, keep(files, rows)), rows.state_dict())


def test_an_environment_that_lags_behind_is_kept_as_it_was(tmp_path: Path) -> None:
    """What it may change is not where the others may."""
    rows, files = buffer(2, 2, 1, capacity=60_000), ReplayFiles(tmp_path)
    for t in range(3000):
        step_all(rows, t, [0, 1] if t < 5 else [0])
    draft, state = files.draft("r", rows), rows.state_dict()
    for t in range(9):
        step_all(rows, 0.5 + t, [0, 1])
    assert_same(read(files, write(files, draft)), state)


def test_rows_that_come_in_while_others_are_written(tmp_path: Path) -> None:
    """The ring turns several times, in earnest."""
    rows, files = buffer(4, 3, 1, capacity=40_000), ReplayFiles(tmp_path)
    for t in range(9000):
        step_all(rows, t, [0, 1, 2, 3])
    t, kept = 0, 0
    for _ in range(12):
        draft, state, found = files.draft("r", rows), rows.state_dict(), []
        writer = threading.Thread(
            target=lambda draft=draft, found=found: found.append(write(files, draft))
        )
        writer.start()
        while writer.is_alive() or t % 1500:
            step_all(rows, t, [0, 1, 2, 3] if t % 5 else [2, 3])
            t += 1
        writer.join()
        if found:
            kept += 1
            assert_same(read_anew(files, found[0]), state)
    assert kept > 0


def test_rows_that_are_written_over_meanwhile_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "_MARGIN", 3)
    monkeypatch.setattr(segments, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(segments, "_MARGIN_BYTES", 1)
    rows, _ = filled()
    files = ReplayFiles(tmp_path)
    draft, state = files.draft("r", rows), rows.state_dict()
    for t in range(2):
        step_all(rows, t, [0, 1])
    entry = write(files, draft)
    assert_same(read_anew(files, entry), state)
    for t in range(150):
        step_all(rows, t, [0, 1])
    draft = files.draft("r", rows)
    for t in range(4):
        step_all(rows, t, [0, 1])
    with pytest.raises(ReplayMoved, match="4 steps were taken while the replay was written"):
        write(files, draft)
    assert [path.name for path in tmp_path.glob("rows_*")] == [entry["segments"][0]["name"]]
    draft, state = files.draft("r", rows), rows.state_dict()
    for t in range(4):  # more is copied now
        step_all(rows, t, [0, 1])
    assert_same(read_anew(files, write(files, draft)), state)


def test_rows_that_are_replaced_meanwhile_are_told_of(tmp_path: Path) -> None:
    rows, files = buffer(1, 1, 1, capacity=300_000), ReplayFiles(tmp_path)
    step_all(rows, 0.0, [0])
    other = rows.state_dict()
    for t in range(200):
        step_all(rows, t, [0])
    draft = files.draft("r", rows)
    rows.load_state_dict(other)
    with pytest.raises(ReplayMoved):
        write(files, draft)


@pytest.mark.parametrize("times", [1, 2])
def test_after_the_disk_refused_the_next_is_whole(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that were loaded are in no file of this directory yet."""
    rows, files = buffer(2, 1, 1, 200), ReplayFiles(tmp_path)
    rows.load_state_dict(filled()[0].state_dict())

    def refuse(*_: Any) -> Any:
        raise OSError("no space left on device")

    for _ in range(times):
        with monkeypatch.context() as full:
            full.setattr(segments, "seal", refuse)
            with pytest.raises(OSError, match="no space left"):
                keep(files, rows)
        step_all(rows, 1.0, [0, 1])
        assert list(tmp_path.glob("rows_*")) == []
    assert_same(read_anew(files, keep(files, rows)), rows.state_dict())


def test_segments_that_were_deleted_are_not_relied_on(tmp_path: Path) -> None:
    rows, _ = filled()
    files = ReplayFiles(tmp_path)
    keep(files, rows)
    (tmp_path / "rows_of_mine.bin").write_bytes(b"")
    files.remove_unused([])
    assert [path.name for path in tmp_path.glob("rows_*")] == ["rows_of_mine.bin"]
    assert_same(read_anew(files, keep(files, rows)), rows.state_dict())


def test_priorities_that_are_all_alike_take_a_bit_each(tmp_path: Path) -> None:
    rows, files = buffer(1, 1, 1, capacity=100_000), ReplayFiles(tmp_path)
    for t in range(50):
        step_all(rows, t, [0])
    keep(files, rows)
    assert (tmp_path / "rest.safetensors").stat().st_size < 2 * 100_000 / 8 + 5000


@pytest.mark.parametrize("kind", ["altered", "torn", "gone", "link"])
def test_a_damaged_segment_is_a_checkpoint_error(kind: str, tmp_path: Path) -> None:
    rows, _ = filled()
    files = ReplayFiles(tmp_path)
    keep(files, rows)
    step_all(rows, 1.0, [0, 1])
    entry = keep(files, rows)
    for path in sorted(tmp_path.glob("rows_*")):
        content = path.read_bytes()
        match kind:
            case "altered":
                path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            case "torn":
                path.write_bytes(content[:-1])
            case "gone":
                path.unlink()
            case _:
                path.unlink()
                path.symlink_to("/dev/zero")
        with pytest.raises(CheckpointError, match="the replay r"):
            read_anew(files, entry)
        path.unlink(missing_ok=True)
        path.write_bytes(content)
    assert_same(read_anew(files, entry), rows.state_dict())


HOSTILE: list[dict[str, Any]] = [
    {"name": "/etc/passwd"},
    {"name": "../rest.json"},
    {"name": 3},
    {"mark": {"size": 1, "sha256": ""}},
    {"mark": None},
    {"count": -1},
    {"count": 10**12},
    {"count": "3"},
    {"level": 0, "more": 1},
]


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_a_hostile_entry_is_a_checkpoint_error(change: dict[str, Any], tmp_path: Path) -> None:
    files = ReplayFiles(tmp_path)
    entry = keep(files, filled()[0])
    entry["segments"][0] |= change
    with pytest.raises(CheckpointError, match="the replay r"):
        read_anew(files, entry)


@pytest.mark.parametrize("found", [None, 3, [{}], [None]], ids=str)
def test_an_entry_that_makes_no_sense_is_a_checkpoint_error(found: Any, tmp_path: Path) -> None:
    files = ReplayFiles(tmp_path)
    keep(files, filled()[0])
    for entry in ({"segments": found}, {}) if found else ({}, None):
        with pytest.raises(CheckpointError, match="the replay r"):
            read_anew(files, entry)


@pytest.mark.parametrize(
    "change",
    [
        {"used": 0},
        {"used": 10**12},
        {"used": None},
        {"shape": [2, 10**15, 44]},
        {"shape": [2, 101, 10**12]},
        {"shape": [0, 101, 44]},
        {"shape": []},
        {"state": {"cursors": {"dtype": "O", "shape": [1], "bytes": np.zeros(8, np.uint8)}}},
        {"state": {"cursors": {"dtype": "<f8", "shape": [9], "bytes": np.zeros(8, np.uint8)}}},
        {"state": {}},
        {"state": None},
    ],
    ids=str,
)
def test_what_is_hostile_beside_the_rows_is_a_checkpoint_error(
    change: dict[str, Any], tmp_path: Path
) -> None:
    files = ReplayFiles(tmp_path)
    entry = keep(files, filled()[0])
    rest = read_state(tmp_path / "rest")
    write_state(tmp_path / "rest", rest | change)
    with pytest.raises(CheckpointError, match="the replay r"):
        read_anew(files, entry)
