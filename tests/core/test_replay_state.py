"""A saved replay goes on as if nothing had happened; a damaged one is refused."""

from __future__ import annotations

import copy
import io
import pickle
import re
from typing import Any

import numpy as np
import pytest

from tensor_optix.core.replay_buffer import PrioritizedReplayBuffer, ReplayBuffer
from tests.replay_oracle import ready_indices, sampleable, walk

EITHER = pytest.mark.parametrize("kind", [ReplayBuffer, PrioritizedReplayBuffer])


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
