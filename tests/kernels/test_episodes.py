"""Episode statistics against lists of rewards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests import oracle


@pytest.mark.parametrize("envs", [0, 1, 3, 40])
def test_finished_episodes_are_reported_in_env_order(kernels: Any, envs: int) -> None:
    """Over many steps, with invalid rows between, returns and lengths are those of the lists."""
    rng = np.random.default_rng(envs)
    rewards = rng.normal(size=(60, envs)).astype(np.float32)
    dones, valid = rng.random((60, envs)) < 0.2, rng.random((60, envs)) < 0.8
    running = (np.zeros(envs), np.zeros(envs, np.int64))
    finished = (np.full(envs, 7.0), np.zeros(envs, np.int64), np.zeros(envs, np.int32))
    for t, expected in enumerate(oracle.episode_statistics(rewards, dones, valid)):
        count = kernels.episode_statistics(rewards[t], dones[t], valid[t], *running, *finished)
        assert type(count) is int
        reported = list(zip(*(array[:count].tolist() for array in finished), strict=True))
        assert reported == [(pytest.approx(total), length, n) for total, length, n in expected]


def test_only_the_first_k_outputs_are_written(kernels: Any) -> None:
    ones, dones = np.ones(3, np.uint8), np.array([0, 1, 0], np.uint8)
    finished = (np.full(3, -1.0), np.full(3, -1, np.int64), np.full(3, -1, np.int32))
    running = (np.array([1.0, 2.0, 3.0]), np.array([4, 5, 6]))
    rewards = np.full(3, 0.5, np.float32)
    assert kernels.episode_statistics(rewards, dones, ones, *running, *finished) == 1
    assert [array.tolist() for array in finished] == [[2.5, -1, -1], [6, -1, -1], [1, -1, -1]]
    assert [array.tolist() for array in running] == [[1.5, 0.0, 3.5], [5, 0, 7]]


def test_a_done_on_an_invalid_row_is_no_episode(kernels: Any) -> None:
    running = (np.array([5.0]), np.array([2]))
    finished = (np.zeros(1), np.zeros(1, np.int64), np.zeros(1, np.int32))
    poison = np.full(1, np.nan, np.float32)
    one, zero = np.ones(1, np.uint8), np.zeros(1, np.uint8)
    assert kernels.episode_statistics(poison, one, zero, *running, *finished) == 0
    assert (running[0][0], running[1][0]) == (5.0, 2)
