"""A saved replay goes on as if nothing had happened; a damaged one is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tensor_optix.core.replay_buffer import PrioritizedReplayBuffer, ReplayBuffer
from tests.replay_oracle import sampleable, walk

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
