"""Episode statistics against lists of rewards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest

from tests import oracle

if TYPE_CHECKING:
    from numpy.typing import NDArray


Outputs: TypeAlias = "tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int32]]"


def room(rows: int, envs: int) -> Outputs:
    """Return returns, lengths and environments of as many episodes as there may be."""
    most = rows * envs
    return np.full(most, -1.0), np.full(most, -1, np.int64), np.full(most, -1, np.int32)


@pytest.mark.parametrize("rows", [0, 1, 7])
@pytest.mark.parametrize("envs", [0, 1, 3, 40])
def test_finished_episodes_are_reported_step_by_step_in_env_order(
    kernels: Any, rows: int, envs: int
) -> None:
    """Over many windows, with invalid rows between, returns and lengths are those of the lists."""
    rng = np.random.default_rng(envs)
    rewards = rng.normal(size=(9 * rows, envs)).astype(np.float32)
    dones, valid = rng.random((2, *rewards.shape)) < np.array([0.2, 0.8]).reshape(2, 1, 1)
    running = (np.zeros(envs), np.zeros(envs, np.int64))
    expected = oracle.episode_statistics(rewards, dones, valid)
    for window in range(9):
        part, finished = slice(window * rows, (window + 1) * rows), room(rows, envs)
        count = kernels.episode_statistics(
            rewards[part], dones[part], valid[part], *running, *finished
        )
        assert type(count) is int
        reported = list(zip(*(array[:count].tolist() for array in finished), strict=True))
        assert reported == [
            (pytest.approx(total), length, n)
            for step in expected[part]
            for total, length, n in step
        ]


def test_a_window_counts_as_its_steps_do_to_the_bit(kernels: Any) -> None:
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(50, 5)).astype(np.float32)
    dones, valid = rng.random((50, 5)) < 0.1, rng.random((50, 5)) < 0.9
    whole, step = ((np.zeros(5), np.zeros(5, np.int64)) for _ in range(2))
    outputs, found = room(50, 5), []
    count = kernels.episode_statistics(rewards, dones, valid, *whole, *outputs)
    for t in range(50):
        row, one = slice(t, t + 1), room(1, 5)
        k = kernels.episode_statistics(rewards[row], dones[row], valid[row], *step, *one)
        found += zip(*(array[:k].tolist() for array in one), strict=True)
    assert found == list(zip(*(array[:count].tolist() for array in outputs), strict=True))
    assert [array.tobytes() for array in whole] == [array.tobytes() for array in step]


def test_where_episodes_run_is_not_where_finished_ones_are_told(kernels: Any) -> None:
    rewards, flags = np.ones((2, 3), np.float32), np.ones((2, 3), bool)
    returns, lengths, envs = room(2, 3)
    running = (returns[:3], np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="finished_returns must not share memory with running_ret"):
        kernels.episode_statistics(rewards, flags, flags, *running, returns, lengths, envs)


def test_only_the_first_k_outputs_are_written(kernels: Any) -> None:
    ones, dones = np.ones((1, 3), np.uint8), np.array([[0, 1, 0]], np.uint8)
    finished = room(1, 3)
    running = (np.array([1.0, 2.0, 3.0]), np.array([4, 5, 6]))
    rewards = np.full((1, 3), 0.5, np.float32)
    assert kernels.episode_statistics(rewards, dones, ones, *running, *finished) == 1
    assert [array.tolist() for array in finished] == [[2.5, -1, -1], [6, -1, -1], [1, -1, -1]]
    assert [array.tolist() for array in running] == [[1.5, 0.0, 3.5], [5, 0, 7]]


def test_a_done_on_an_invalid_row_is_no_episode(kernels: Any) -> None:
    running = (np.array([5.0]), np.array([2]))
    poison = np.full((1, 1), np.nan, np.float32)
    one, zero = np.ones((1, 1), np.uint8), np.zeros((1, 1), np.uint8)
    assert kernels.episode_statistics(poison, one, zero, *running, *room(1, 1)) == 0
    assert (running[0][0], running[1][0]) == (5.0, 2)
