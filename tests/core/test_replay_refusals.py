"""What does not fit a replay is named, and changes nothing."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tensor_optix.core.replay_buffer import PrioritizedReplayBuffer, ReplayBuffer
from tests.replay_oracle import sampleable, stored


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"capacity": 0}, "capacity must be a whole number in [1, 2147483647], got 0"),
        ({"capacity": 2.5}, "capacity must be a whole number"),
        ({"capacity": "5"}, "capacity must be a whole number in [1, 2147483647], got '5'"),
        ({"capacity": 5, "n_step": 0}, "n_step must be a whole number in [1, 65535], got 0"),
        ({"capacity": 5, "gamma": 1.5}, "gamma must be in [0, 1], got 1.5"),
        ({"capacity": 5, "num_envs": 6}, "num_envs must be a whole number in [1, 5], got 6"),
        ({"capacity": 5, "frame_stack": 0}, "frame_stack must be"),
        ({"capacity": 5, "alpha": 2}, "alpha must be in [0, 1], got 2"),
        ({"capacity": 5, "beta": -1}, "beta must be in [0, 1], got -1"),
    ],
)
def test_a_setting_out_of_range_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        PrioritizedReplayBuffer(**options)


GOOD: dict[str, Any] = {
    "observations": np.zeros((2, 3), np.float32),
    "actions": np.zeros(2, np.int64),
    "rewards": np.zeros(2, np.float32),
    "next_observations": np.zeros((2, 3), np.float32),
    "terminated": np.zeros(2, bool),
    "truncated": np.zeros(2, bool),
}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("observations", np.zeros((2, 4), np.float32), "observations must have shape (2, 3), got"),
        ("observations", np.zeros((2, 3)), "observations must be float32 as the first rows were"),
        ("actions", [0.5, 1.5], "actions must be int64 as the first rows were, got float64"),
        ("actions", np.zeros((2, 1), np.int64), "actions must have shape (2,), got (2, 1)"),
        ("rewards", np.zeros((2, 1)), "rewards must have shape (2,), got (2, 1)"),
        ("rewards", 1.0, "rewards must have shape [B], got a single value: push takes one row"),
        ("rewards", np.zeros(3), "one of each of the 2 environments, got 3"),
        ("next_observations", np.zeros(2), "next_observations must be float32"),
        ("terminated", np.zeros(3, bool), "terminated must have shape (2,), got (3,)"),
        ("truncated", np.zeros(1, bool), "truncated must have shape (2,), got (1,)"),
        ("env_ids", [0, 0], "env_ids[1] must be new in its call, got 0"),
        ("env_ids", [0, 2], "env_ids[1] must be in [0, 2), got 2"),
        ("env_ids", [0.0, 1.0], "env_ids must be integers with shape (2,), got float64 (2,)"),
        ("env_ids", [0], "env_ids must be integers with shape (2,), got int64 (1,)"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_and_nothing_changes(
    name: str, value: Any, said: str
) -> None:
    buffer = ReplayBuffer(20)
    buffer.extend(**GOOD)
    before = sampleable(buffer)
    with pytest.raises(ValueError, match=re.escape(said)):
        buffer.extend(**GOOD | {name: value})
    assert sampleable(buffer) == before


def test_strided_rows_lists_and_other_floats_are_taken() -> None:
    buffer = ReplayBuffer(20)
    buffer.extend(**GOOD)
    wide = np.arange(12, dtype=np.float32).reshape(2, 6)
    buffer.extend(wide[:, ::2], [1, 2], [0.5, 1.5], [[1, 2, 3], [4, 5, 6]], [0, 1], [0, 0])
    batch = stored(buffer)
    assert batch.observations[[1, 3]].tolist() == [[0, 2, 4], [6, 8, 10]]
    assert batch.rewards.tolist() == [0.0, 0.5, 0.0, 1.5]


def test_what_cannot_be_answered_says_why() -> None:
    with pytest.raises(
        ValueError, match="sample must be called when a row has all its rewards, got none"
    ):
        ReplayBuffer(5).sample(1)
    buffer = ReplayBuffer(5)
    with pytest.raises(ValueError, match="num_envs must be given"):
        buffer.extend(**GOOD, env_ids=[0, 1])
    buffer.extend(**GOOD)
    with pytest.raises(ValueError, match="push takes one environment, got 2"):
        buffer.push([0.0], 0, 0.0, [0.0], False)
    with pytest.raises(ValueError, match="batch_size and batches must be >= 1, got 0"):
        buffer.sample(0)
    with pytest.raises(ValueError, match=re.escape("[B, 4, ...] as frame_stack is 4")):
        ReplayBuffer(5, frame_stack=4).extend(**GOOD)


def test_whole_numbers_may_be_written_as_floats() -> None:
    buffer = ReplayBuffer(1e2, n_step=3.0, num_envs=2.0)  # type: ignore[arg-type]
    buffer.extend(**GOOD)
    assert buffer.storage is not None
    assert buffer.storage.layout.rows == 50
    assert [type(value) for value in (buffer.capacity, buffer.n_step)] == [int, int]


def test_no_rows_do_not_settle_what_rows_look_like() -> None:
    buffer = ReplayBuffer(20, num_envs=2)
    with pytest.raises(ValueError, match="the first rows must say what rows look like, got none"):
        buffer.extend([], [], [], [], [], [], [])
    buffer.extend(**GOOD)
    nothing = {name: array[:0] for name, array in GOOD.items()}
    buffer.extend(**nothing, env_ids=[])
    assert len(buffer) == 2


def test_indices_are_not_rounded_and_errors_too_large_leave_their_rows() -> None:
    buffer = PrioritizedReplayBuffer(5, alpha=1.0, eps=0.0)
    buffer.extend(**GOOD)
    with pytest.raises(ValueError, match="indices must be integers with shape"):
        buffer.update_priorities([0.5], [1.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=re.escape("td_errors must have shape (2,), got (2, 1)")):
        buffer.update_priorities(np.arange(2), np.ones((2, 1)))
    buffer.update_priorities(np.array([0]), np.array([1e300]))
    assert buffer.priorities is not None
    assert buffer.priorities.raw[0] == 1.0
