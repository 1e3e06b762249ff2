"""Advantages of windows: time limits, window borders, several environments; minibatches."""

from __future__ import annotations

import numpy as np
import pytest

from tensor_optix.core.trajectory_buffer import (
    MinibatchSampler,
    compute_gae,
    episode_advantages,
    explained_variance,
    make_minibatches,
)
from tensor_optix.core.types import EpisodeData


def reference_gae(rewards, values, dones, gamma, lam, last_value):
    """The definition, as a sum: A_t = sum_k (gamma * lambda)^k delta_{t+k}, up to the episode's end."""
    steps = len(rewards)
    following = np.append(values[1:], last_value)
    deltas = rewards + gamma * following * (1.0 - dones) - values
    advantages = np.zeros(steps)
    for t in range(steps):
        for k in range(t, steps):
            advantages[t] += (gamma * lam) ** (k - t) * deltas[k]
            if dones[k]:
                break
    return advantages


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
def test_gae_is_the_sum_of_its_definition(lam):
    rng = np.random.default_rng(0)
    rewards, values = rng.standard_normal(50), rng.standard_normal(50)
    dones = rng.random(50) < 0.1
    advantages, returns = compute_gae(rewards, values, dones, 0.99, lam, 0.7)
    expected = reference_gae(rewards, values, dones.astype(float), 0.99, lam, 0.7)
    np.testing.assert_allclose(advantages, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(returns, expected + values, rtol=1e-4, atol=1e-5)
    assert advantages.dtype == np.float32


def test_gae_of_several_environments_is_that_of_each_alone():
    rng = np.random.default_rng(1)
    rewards, values = rng.standard_normal((2, 40, 5)).astype(np.float32)
    dones = rng.random((40, 5)) < 0.2
    last = rng.standard_normal(5)
    together, _ = compute_gae(rewards, values, dones, last_value=last)
    for n in range(5):
        alone, _ = compute_gae(rewards[:, n], values[:, n], dones[:, n], last_value=last[n])
        np.testing.assert_array_equal(together[:, n], alone)


def test_gae_refuses_what_does_not_fit_by_name():
    with pytest.raises(ValueError, match="gae_lambda"):
        compute_gae([1.0], [1.0], [False], gae_lambda=1.5)
    with pytest.raises(ValueError, match=r"values must have the shape of rewards, \(2,\)"):
        compute_gae([1.0, 2.0], [1.0], [False, False])
    with pytest.raises(ValueError, match="rewards must be"):
        compute_gae(np.zeros((1, 1, 1)), np.zeros((1, 1, 1)), np.zeros((1, 1, 1)))


def window(terminated, truncated, **fields) -> EpisodeData:
    rows = len(terminated)
    return EpisodeData(
        observations=np.zeros((rows, 1), np.float32),
        actions=np.zeros(rows, np.int64),
        rewards=np.ones(rows, np.float32),
        terminated=terminated,
        truncated=truncated,
        infos=[],
        episode_id=0,
        **fields,
    )


def advantages_of(episode, values, end_values=(), last_values=(0.0,)):
    return episode_advantages(
        episode,
        np.asarray(episode.rewards, np.float32),
        np.asarray(values, np.float32),
        np.asarray(end_values, np.float32),
        np.asarray(last_values, np.float32),
        (0.5, 1.0),
    )


def test_a_truncated_row_is_bootstrapped_from_the_true_final_observation_and_ends_the_episode():
    episode = window(
        [False] * 3,
        [False, True, False],
        end_rows=np.array([1]),
        end_observations=np.zeros((1, 1)),
        final_obs=np.zeros(1),
    )
    _, returns, usable = advantages_of(episode, [0.0, 0.0, 7.0], [4.0], [2.0])
    # Row 1: 1 + 0.5 * 4; row 0: 1 + 0.5 * 3; row 2: 1 + 0.5 * 2.
    np.testing.assert_allclose(returns, [2.5, 3.0, 2.0])
    assert usable.all()


def test_a_termination_on_the_same_row_as_a_time_limit_wins():
    episode = window([True], [True], end_rows=np.array([0]), end_observations=np.zeros((1, 1)))
    _, returns, _ = advantages_of(episode, [0.0], [100.0])
    assert returns.tolist() == [1.0]


def test_without_end_observations_a_truncated_last_row_uses_the_final_observation():
    episode = window([False, False], [False, True], final_obs=np.zeros(1))
    _, returns, usable = advantages_of(episode, [0.0, 0.0], (), [4.0])
    assert returns.tolist() == [2.5, 3.0]
    assert usable.all()


def test_rows_whose_next_observation_is_unknown_are_left_out():
    episode = window([False, False, True], [True, False, False])
    _, _, usable = advantages_of(episode, [0.0, 0.0, 0.0])
    assert usable.tolist() == [False, True, True]
    episode = window([False, False], [False, False])
    _, _, usable = advantages_of(episode, [0.0, 0.0])
    assert usable.tolist() == [True, False]


def test_minibatches_cover_every_row_once_and_the_last_may_be_short():
    data = {"a": np.arange(10), "b": np.arange(10) * 2}
    batches = list(make_minibatches(data, 4))
    assert [len(batch["a"]) for batch in batches] == [4, 4, 2]
    assert sorted(np.concatenate([batch["a"] for batch in batches])) == list(range(10))
    assert all((batch["b"] == 2 * batch["a"]).all() for batch in batches)
    ordered = next(make_minibatches(data, 4, shuffle=False))
    assert ordered["a"].tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="same number of rows"):
        list(make_minibatches({"a": np.zeros(2), "b": np.zeros(3)}, 1))


def test_an_epoch_gathers_all_fields_of_the_chosen_rows_in_one_order():
    fields = {"x": np.arange(12, dtype=np.float32).reshape(6, 2), "y": np.arange(6)}
    rows = np.array([0, 2, 3, 5], np.int32)
    sampler = MinibatchSampler(seed=1)
    first = {name: field.copy() for name, field in sampler.epoch(fields, rows).items()}
    assert sorted(first["y"]) == [0, 2, 3, 5]
    np.testing.assert_array_equal(first["x"], fields["x"][first["y"]])
    again = MinibatchSampler(seed=1).epoch(fields, np.array([0, 2, 3, 5], np.int32))
    np.testing.assert_array_equal(first["y"], again["y"])
    fewer = sampler.epoch(fields, np.array([1], np.int32))
    assert fewer["y"].tolist() == [1]


def test_explained_variance_is_one_for_a_perfect_critic_and_zero_for_a_constant_one():
    returns = np.arange(5.0)
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance(np.zeros(5), returns) == 0.0
    assert explained_variance(np.zeros(5), np.ones(5)) == 0.0


def test_explained_variance_is_finite_for_the_largest_numbers_of_single_precision():
    returns = np.array([3e38, -3e38, 1.0], np.float32)
    assert explained_variance(-returns, returns) == pytest.approx(-3.0)
