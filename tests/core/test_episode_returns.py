"""Returns and lengths of episodes: step by step as by windows, and fairly taken."""

from __future__ import annotations

import numpy as np
import pytest

from tensor_optix.core.episode_returns import EpisodeCounter, FirstEpisodes


def test_steps_in_any_order_and_windows_count_alike_to_the_bit():
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(3, 40, 5)).astype(np.float32)
    dones, valid = rng.random((3, 40, 5)) < 0.2, rng.random((3, 40, 5)) < 0.8
    by_window, by_step = EpisodeCounter(5), EpisodeCounter(5)
    for window in zip(rewards, dones, valid, strict=True):
        returns, lengths = by_window.add_window(*window)
        found = []
        for row in zip(*window, strict=True):
            order = rng.permutation(np.flatnonzero(row[2]))
            found += sorted(
                zip(*by_step.add_step(order, *(part[order] for part in row[:2])), strict=True)
            )
        assert returns.tolist() == [total for _, total, _ in found]
        assert lengths.tolist() == [length for _, _, length in found]


def test_a_window_without_an_end_gives_empty_arrays_of_the_same_dtypes():
    returns, lengths = EpisodeCounter(1).add_window(
        np.ones((2, 1), np.float32), np.zeros((2, 1), bool), np.ones((2, 1), bool)
    )
    assert (returns.shape, returns.dtype) == ((0,), np.float64)
    assert (lengths.shape, lengths.dtype) == ((0,), np.int64)


def test_what_is_cleared_and_what_is_nan_does_not_reach_the_next_episode():
    counter, env, done = EpisodeCounter(1), np.zeros(1, np.int64), np.ones(1, bool)
    counter.add_step(env, 5.0, ~done)
    counter.clear()
    assert [part.tolist() for part in counter.add_step(env, 1.0, done)] == [[0], [1.0], [1]]
    assert np.isnan(counter.add_step(env, np.nan, done)[1])
    assert counter.add_step(env, 2.0, done)[1].tolist() == [2.0]


def test_each_environment_gives_its_share_and_the_first_ones_give_the_rest():
    first = FirstEpisodes(5, 3)
    for env_id, total in [(2, 9.0), (2, 8.0), (0, 1.0), (0, 2.0), (1, 3.0), (0, 7.0)]:
        first.add(env_id, total, int(10 * total))
        assert not first.is_complete
    first.add(1, 4.0, 40)
    assert first.is_complete
    assert first.returns.tolist() == [1.0, 2.0, 3.0, 4.0, 9.0]
    assert first.lengths.tolist() == [10, 20, 30, 40, 90]


@pytest.mark.parametrize("num_envs", [2, 5])
def test_environments_without_a_share_are_not_waited_for(num_envs):
    first = FirstEpisodes(1, num_envs)
    first.add(num_envs - 1, 9.0, 1)
    first.add(0, 1.0, 1)
    assert first.is_complete
    assert first.returns.tolist() == [1.0]
