"""What a replay costs in memory, where it lies, what does not fit; and how it is saved and restored."""

from __future__ import annotations

import copy
import io
import logging
import pickle
import re
import sys
from typing import Any

import numpy as np
import pytest

from tensor_optix.core.replay import storage
from tensor_optix.core.replay_buffer import PrioritizedReplayBuffer, ReplayBuffer
from tests.replay_oracle import ready_indices, rows_of, sampleable, walk

EITHER = pytest.mark.parametrize("kind", [ReplayBuffer, PrioritizedReplayBuffer])


def atari(buffer: ReplayBuffer, steps: int, num_envs: int = 1) -> None:
    rng = np.random.default_rng(0)
    stack = np.zeros((num_envs, 4, 84, 84), np.uint8)
    flags = np.zeros(num_envs, bool)
    for _ in range(steps):
        frame = rng.integers(0, 255, (num_envs, 1, 84, 84), np.uint8)
        follow = np.concatenate([stack[:, 1:], frame], axis=1)
        buffer.extend(stack, np.zeros(num_envs, np.int64), np.zeros(num_envs), follow, flags, flags)
        stack = follow


def test_a_stack_of_four_frames_costs_one_frame_a_row() -> None:
    buffer = ReplayBuffer(300, seed=0)
    atari(buffer, 400)
    assert buffer.storage is not None
    assert buffer.storage.layout.frames == 4
    assert buffer.storage.layout.slot.itemsize == 84 * 84 + 48  # 7104; unstacked it is 28 kB
    assert buffer.nbytes / 300 < 7_400
    batch = buffer.sample(20)
    assert (batch.observations[:, 1:] == batch.next_observations[:, :-1]).all()


def test_frames_that_repeat_at_a_reset_are_stored_once() -> None:
    buffer = ReplayBuffer(50, frame_stack=4)
    frame = np.ones((4, 8, 8), np.uint8)
    for t in range(5):
        buffer.push(frame * t, 0, 0.0, frame * t, True)
    assert buffer.storage is not None
    in_use = (buffer.storage.state()["side_entries"][1] >= 0).sum()
    assert in_use == 5  # the final observations' newest frames


@pytest.mark.parametrize("shape", [(3, 8, 8), (9, 8, 8), (4, 8), (1, 8, 8)])
def test_images_that_are_no_stack_are_stored_whole(shape: tuple[int, ...]) -> None:
    buffer = ReplayBuffer(10)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (2, *shape), np.uint8)
    buffer.push(images[0], 0, 0.0, images[1], False)
    assert buffer.storage is not None
    assert buffer.storage.layout.frames == 1


def test_the_size_is_logged_before_it_is_allocated(caplog: pytest.LogCaptureFixture) -> None:
    buffer = ReplayBuffer(1000)
    with caplog.at_level(logging.INFO):
        walk(buffer, 1)
    assert caplog.messages == ["replay: 1,000 rows, 24.0 kB"]
    assert buffer.storage is not None
    assert buffer.nbytes >= 24 * 1001


def test_what_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "available_memory", lambda: 1_500_000)
    buffer = ReplayBuffer(1_000_000)
    said = "needs 24.0 MB of memory, 1.5 MB are available: .* memory_map"
    with pytest.raises(MemoryError, match=said):
        walk(buffer, 1)
    assert len(buffer) == 0


def test_available_memory_is_that_of_this_machine() -> None:
    available = storage.available_memory()
    assert available is None or 1e8 < available < 1e14


def test_rows_can_lie_in_a_file(tmp_path: Any) -> None:
    path = tmp_path / "rows"
    mapped, plain = ReplayBuffer(50, memory_map=path, seed=0), ReplayBuffer(50, seed=0)
    for buffer in (mapped, plain):
        walk(buffer, 80)
    assert rows_of(mapped.sample(30)) == rows_of(plain.sample(30))
    assert path.stat().st_size == 51 * 24
    with pytest.raises(FileExistsError, match="memory_map must be a new file"):
        walk(ReplayBuffer(50, memory_map=path), 1)


def test_a_file_that_does_not_fit_the_disk_is_refused(tmp_path: Any) -> None:
    buffer = ReplayBuffer(2**30, memory_map=tmp_path / "rows")
    image = np.zeros((1, 1000, 1000, 3))
    with pytest.raises(OSError, match="choose a smaller capacity or another disk"):
        buffer.extend(image, [0], [0.0], image, [False], [False])
    assert not (tmp_path / "rows").exists()


def test_a_frame_that_repeats_in_a_stack_that_is_cut_is_kept_once() -> None:
    buffer = ReplayBuffer(50, frame_stack=4)
    stack = np.ones((4, 8, 8), np.uint8)
    buffer.push(stack, 0, 0.0, stack * 7, False)
    buffer.push(stack * 9, 0, 0.0, stack * 9, False)
    assert buffer.storage is not None
    assert (buffer.storage.state()["side_entries"][1] >= 0).sum() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="no other system reserves room for a file")
def test_the_room_of_a_file_is_reserved(tmp_path: Any) -> None:
    """A file with holes would end the process when others have filled the disk."""
    walk(ReplayBuffer(100_000, memory_map=tmp_path / "rows"), 1)
    found = (tmp_path / "rows").stat()
    assert found.st_blocks * 512 >= found.st_size


def test_a_file_without_room_is_removed_again(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(storage.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="no space left on device; choose a smaller capacity"):
        walk(ReplayBuffer(50, memory_map=tmp_path / "rows"), 1)
    assert not (tmp_path / "rows").exists()


def test_the_side_table_stays_in_proportion_to_the_rows() -> None:
    """Episodes of one step put an observation aside in every row, and free it again."""
    buffer = ReplayBuffer(100, n_step=3, num_envs=10)
    ends, goes_on = np.ones(10, bool), np.zeros(10, bool)
    for t in range(3000):
        now = np.full((10, 4), float(t))
        buffer.extend(now, np.zeros(10, np.int64), np.ones(10, np.float32), now + 1, ends, goes_on)
    assert buffer.storage is not None
    assert buffer.nbytes < 3 * buffer.storage.layout.ring_bytes


# ---- saved state


@EITHER
@pytest.mark.parametrize("n_step", [1, 3])
def test_a_restored_buffer_goes_on_bit_for_bit(kind: Any, n_step: int, tmp_path: Any) -> None:
    first = kind(40, n_step=n_step, num_envs=1, seed=7)
    walk(first, 61, ends=False)
    first.save(tmp_path / "saved")
    others = [kind(40, n_step=n_step, num_envs=1), kind(40, n_step=n_step, seed=1)]
    others[0].load_state_dict(first.state_dict())
    others[1].load(tmp_path / "saved")
    results = []
    for buffer in (first, *others):
        walk(buffer, 30, start=61)
        drawn = [*buffer.sample(16, batches=3)]
        if isinstance(buffer, PrioritizedReplayBuffer):
            buffer.update_priorities(drawn[6], np.arange(48.0))
            drawn += [*buffer.sample(9)]
        results.append(b"".join(array.tobytes() for array in drawn))
        assert sampleable(buffer) == sampleable(first)
    assert results[0] == results[1] == results[2]


@EITHER
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda buffer: pickle.loads(pickle.dumps(buffer))]
)
def test_a_copy_goes_on_by_itself(kind: Any, copied: Any) -> None:
    first = kind(20, n_step=2, num_envs=1, seed=1)
    walk(first, 15, ends=False)
    second = copied(first)
    for buffer in (first, second):
        walk(buffer, 12, start=15)
    assert sampleable(first) == sampleable(second)
    assert first.sample(40).indices.tolist() == second.sample(40).indices.tolist()
    assert set(second.sample(300).indices) == set(ready_indices(second))


def test_an_empty_buffer_can_be_saved_and_restored(tmp_path: Any) -> None:
    first, second = ReplayBuffer(5, seed=3), ReplayBuffer(5, seed=4)
    first.save(tmp_path / "saved")
    second.load(tmp_path / "saved")
    walk(first, 4)
    walk(second, 4)
    assert first.sample(20).indices.tolist() == second.sample(20).indices.tolist()


def test_saving_overwrites_nothing(tmp_path: Any) -> None:
    with pytest.raises(FileExistsError):
        ReplayBuffer(5).save(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"side": None}, "state must hold 'side'"),
        ({"cursors": np.zeros((2, 8), np.int64)}, "'cursors' must be int64 (1, 8)"),
        ({"ring": np.zeros((1, 3, 24), np.uint8)}, "'ring' must"),
        ({"layout": np.zeros(9, np.int64)}, "'layout' must be nine"),
        ({"gamma": np.array([2.0])}, "gamma must be in [0, 1], got 2.0"),
        ({"side": np.zeros((1, 9), np.uint8)}, "'side' must be uint8 (1, 4)"),
        ({"ring": None}, "state must hold 'ring'"),
        ({"generator": None}, "state must hold 'generator'"),
        ({"generator": np.array([-3.0])}, "'generator' must be uint64 (1,), got float64 (1,)"),
        ({"observation_format": np.empty((0, 1), object)}, "must be numbers, got Python objects"),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(change: dict[str, Any], said: str) -> None:
    buffer = ReplayBuffer(20, seed=0)
    walk(buffer, 9)
    changed = buffer.state_dict() | change
    state = {name: array for name, array in changed.items() if array is not None}
    before = sampleable(buffer)
    with pytest.raises(ValueError, match=re.escape(said)):
        buffer.load_state_dict(state)
    assert sampleable(buffer) == before


def test_a_state_of_another_size_is_refused() -> None:
    first, second = ReplayBuffer(20), ReplayBuffer(30)
    walk(first, 5)
    with pytest.raises(ValueError, match=r"\(1, 30, 1, 1\), got \(1, 20, 1, 1\)"):
        second.load_state_dict(first.state_dict())


@pytest.mark.parametrize(
    ("name", "at", "value", "said"),
    [
        ("cursors", (0, 0), 99, "'cursors' must be of this buffer"),
        ("cursors", (0, 1), 1, "'cursors' must be of this buffer"),
        ("cursors", (0, 2), -1, "'cursors' must be of this buffer"),
        ("cursors", (0, 2), 15, "'ring' must hold all rows of its cursors"),
        ("counters", 0, 5, "'counters' must count 9 rows"),
        ("counters", 3, -1, "'counters' must count"),
        ("counters", 2, 99, "'side_entries' must list the side frames that are free"),
        ("side_entries", (0, 0), 77, "'side_entries' must list"),
        ("side_entries", (1, 0), 5, "'side_entries' must list"),
        ("side_entries", (1, 1), 21, "'side_entries' must list"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(
    name: str, at: Any, value: int, said: str
) -> None:
    """They would have kernels write out of bounds, or look for a row that is not there for ever."""
    buffer = ReplayBuffer(20, seed=0)
    walk(buffer, 9)
    state, before = buffer.state_dict(), sampleable(buffer)
    state[name][at] = value
    with pytest.raises(ValueError, match=re.escape(said)):
        buffer.load_state_dict(state)
    assert sampleable(buffer) == before


def test_all_rows_dropped_is_not_a_row_to_draw() -> None:
    buffer = ReplayBuffer(20)
    walk(buffer, 9)
    state = buffer.state_dict()
    state["ring"].view(buffer.storage.layout.slot)["flags"] |= 2  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="'counters' must count 0 rows"):
        buffer.load_state_dict(state)


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    file = io.BytesIO()
    about = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)
    return file.getvalue()


class Payload:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Any) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


@EITHER
@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("ring", b""),
        ("ring", header((1, 10, 24)) + b"short"),
        ("ring", b"PK\x03\x04 no array"),
        ("side", header((10**13,))),
        ("cursors", header((10**11, 8), "<i8")),
        ("counters", header((10**30,), "<i8")),
    ],
    ids=["empty", "cut", "zip", "side", "cursors", "counters"],
)
def test_a_damaged_file_is_refused_and_allocates_nothing(
    kind: Any, file: str, content: bytes, tmp_path: Any
) -> None:
    buffer = kind(20, num_envs=1)
    walk(buffer, 9)
    buffer.save(tmp_path / "saved")
    (tmp_path / "saved" / f"{file}.npy").write_bytes(content)
    before = sampleable(buffer)
    with pytest.raises(ValueError, match=f"{file}.npy must be an array that a replay saved"):
        buffer.load(tmp_path / "saved")
    assert sampleable(buffer) == before


def test_a_pickle_is_never_executed(tmp_path: Any) -> None:
    buffer = ReplayBuffer(20)
    walk(buffer, 9)
    buffer.save(tmp_path / "saved")
    payload = np.array([Payload(tmp_path / "executed")], object)
    np.save(tmp_path / "saved" / "side.npy", payload, allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        buffer.load(tmp_path / "saved")
    assert not (tmp_path / "executed").exists()


def test_sizes_are_checked_before_priorities_are_allocated() -> None:
    first, second = (PrioritizedReplayBuffer(20, num_envs=1) for _ in range(2))
    walk(first, 5)
    state = first.state_dict()
    state["layout"][[1, 2]] = 2**40 + 1, 2**40
    with pytest.raises(ValueError, match="the state must be that of a buffer with"):
        second.load_state_dict(state)


def test_only_rows_that_are_ready_can_be_drawn_whatever_a_state_says() -> None:
    first, second = (PrioritizedReplayBuffer(20, n_step=3) for _ in range(2))
    walk(first, 8, ends=False)
    second.load_state_dict(first.state_dict() | {"priorities_rows_in": np.ones(23, bool)})
    assert set(second.sample(500).indices) == set(ready_indices(second)) == set(range(6))


def test_files_may_lie_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    first = ReplayBuffer(5, memory_map="~/rows")
    first.push(np.zeros(2, np.float32), 0, 1.0, np.ones(2, np.float32), False)
    first.save("~/saved")
    second = ReplayBuffer(5)
    second.load("~/saved")
    assert len(second) == 1
    assert (tmp_path / "rows").exists()
    assert not (tmp_path / "~").exists()
