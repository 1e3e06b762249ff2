"""Windows: advantages over time limits and window borders, minibatches, and the rows taken apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.core.trajectory_buffer import (
    MinibatchSampler,
    ObservedRows,
    compute_gae,
    episode_advantages,
    explained_variance,
    make_minibatches,
    transitions_of,
)
from tensor_optix.core.types import EpisodeData, Transitions
from tensor_optix.pipeline.rollout_pipeline import RolloutPipeline
from tests.pipeline.any_order_env import AnyOrder
from tests.pipeline.counting_env import collect
from tests.pipeline.test_observe import Observer
from tests.pipeline.test_vector_env import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Iterable


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


@pytest.mark.parametrize("marks", [(False, True), (0, 1), (0, 255), (0, 256), (0, -1), (0.0, 0.5)])
def test_gae_of_lists_is_that_of_arrays(marks):
    rng = np.random.default_rng(2)
    rewards, values = rng.standard_normal((2, 60))
    dones = rng.random(60) < 0.2
    listed = [marks[int(done)] for done in dones]
    expected = compute_gae(rewards, values, dones, last_value=0.5)
    for of_lists in (
        compute_gae(rewards.tolist(), values.tolist(), listed, last_value=[0.5]),
        compute_gae(tuple(rewards), list(values), tuple(listed), last_value=0.5, valid=[1] * 60),
    ):
        for one, other in zip(of_lists, expected, strict=True):
            assert one.tobytes() == other.tobytes()


def test_gae_of_an_empty_list_is_empty():
    advantages, returns = compute_gae([], [], [])
    assert advantages.shape == returns.shape == (0,)


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


T, N = 6, 3


def make_window(**changes: Any) -> EpisodeData:
    """Return a window whose observation of environment n at step t is [n, t]."""
    grid = np.stack(np.meshgrid(np.arange(T + 1), np.arange(N), indexing="ij"), axis=-1)
    observations = grid[..., ::-1].astype(np.float32)
    fields: dict[str, Any] = {
        "observations": observations[:T].reshape(T * N, 2),
        "actions": np.arange(T * N),
        "rewards": np.arange(T * N, dtype=np.float64),
        "terminated": np.zeros(T * N, bool),
        "truncated": np.zeros(T * N, bool),
        "infos": [],
        "episode_id": 0,
        "num_envs": N,
        "final_obs": observations[T],
    }
    return EpisodeData(**(fields | changes))


def rows_of(steps: Iterable[Transitions]) -> list[tuple[Any, ...]]:
    """Return (environment, observation, action, reward, next observation, terminated, truncated)."""
    return [
        (
            int(step.env_ids[k]),
            tuple(step.observations[k].tolist()),
            step.actions[k].item(),
            float(step.rewards[k]),
            tuple(step.next_observations[k].tolist()),
            bool(step.terminated[k]),
            bool(step.truncated[k]),
        )
        for step in steps
        for k in range(len(step.rewards))
    ]


def per_env(rows: list[tuple[Any, ...]]) -> dict[int, list[tuple[Any, ...]]]:
    found: dict[int, list[tuple[Any, ...]]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row)
    return found


def test_every_row_comes_once_with_the_next_observation_of_its_own_environment():
    rows = rows_of(transitions_of(make_window()))
    assert [row[3] for row in rows] == list(range(T * N))
    for env_id, observation, action, reward, following, *_ in rows:
        n, t = observation
        assert env_id == n == following[0]
        assert following[1] == t + 1
        assert action == reward == t * N + n


@pytest.mark.parametrize("backend", [*BACKENDS, "any order"])
def test_a_window_holds_what_an_observer_was_shown_while_it_was_collected(backend):
    """Every valid row, at every kind of end, over window borders and in any order of answers."""
    opened: list[Any] = []

    def keep(*closable: Any) -> Any:
        opened.extend(closable)
        return closable[-1]

    agent = Observer()
    pipeline = RolloutPipeline(
        lambda seed: BACKENDS[backend](keep) if backend in BACKENDS else AnyOrder(), agent, 7, 0
    )
    windows = collect(pipeline, 4)
    pipeline.teardown()
    for env in opened:
        env.close()
    taken = [row for window in windows for row in rows_of(transitions_of(window))]
    assert len(taken) == sum(window.num_steps for window in windows)
    assert per_env(taken) == per_env(rows_of(agent.shown))


def test_a_row_that_ended_an_episode_leads_to_its_true_last_observation():
    ended = np.zeros(T * N, bool)
    ended[[4, 8]] = True
    ends = np.array([[1, 40], [2, 80]], np.float32)
    for name in ("terminated", "truncated"):
        window = make_window(**{name: ended}, end_rows=np.array([4, 8]), end_observations=ends)
        following = {row[3]: row[4] for row in rows_of(transitions_of(window))}
        assert (following[4], following[8], following[5]) == ((1, 40), (2, 80), (2, 2))


def test_invalid_rows_are_left_out_and_a_step_of_nothing_else_is_no_step():
    valid = np.ones(T * N)
    valid[[3, 4, 5, 7]] = 0.0
    steps = list(transitions_of(make_window(valid=valid)))
    assert len(steps) == T - 1
    assert [row[3] for row in rows_of(steps)] == [0, 1, 2, 6, *range(8, T * N)]


def test_rows_whose_next_observation_is_not_known_are_left_out_but_terminated_ones_stay():
    terminated, truncated = np.zeros(T * N, bool), np.zeros(T * N, bool)
    terminated[[3, T * N - 1]] = True
    truncated[7] = True
    window = make_window(terminated=terminated, truncated=truncated, final_obs=None)
    rows = rows_of(transitions_of(window))
    # 7 was cut without its last observation, 15 and 16 are followed by what is not in the window.
    assert [row[3] for row in rows] == [n for n in range(T * N) if n not in (7, 15, 16)]
    assert rows[3][4] == rows[3][1]


def test_both_terminated_and_truncated_is_kept_with_both_flags():
    both = np.zeros(T * N, bool)
    both[5] = True
    rows = rows_of(transitions_of(make_window(terminated=both, truncated=both)))
    assert rows[5][5:] == (True, True)


def test_one_environment_with_lists_and_a_last_row_that_ended():
    window = EpisodeData(
        observations=np.arange(3, dtype=np.uint8),
        actions=[0, 1, 0],
        rewards=[1.0, 2.0, 3.0],
        terminated=[False, False, False],
        truncated=[False, False, True],
        infos=[],
        episode_id=0,
        end_rows=np.array([2]),
        end_observations=np.array([9], np.uint8),
    )
    steps = list(transitions_of(window))
    assert [step.next_observations.tolist() for step in steps] == [[1], [2], [9]]
    assert {step.next_observations.dtype for step in steps} == {np.dtype(np.uint8)}
    assert all(step.rewards.dtype == np.float32 for step in steps)


def test_next_observations_have_the_dtype_of_the_observations_also_the_last():
    window = make_window(final_obs=np.ones((N, 2), np.float64))
    assert {s.next_observations.dtype for s in transitions_of(window)} == {np.dtype(np.float32)}


def test_nothing_of_the_window_is_shared_that_a_change_of_the_parts_could_reach():
    window = make_window()
    before = np.array(window.observations)
    for step in transitions_of(window):
        step.next_observations.fill(-1)
    np.testing.assert_array_equal(window.observations, before)


def observed(*windows: EpisodeData) -> ObservedRows:
    rows = ObservedRows()
    for window in windows:
        for step in transitions_of(window):
            rows.add(step)
    return rows


def test_a_window_is_covered_by_its_own_rows():
    window = make_window()
    assert observed(window).covers(window)
    assert observed(make_window(), window).covers(window)


def test_a_window_from_elsewhere_is_not_covered_however_many_rows_were_observed():
    window = make_window()
    other = make_window(observations=window.observations + 1)
    acted_otherwise = make_window(actions=window.actions + 1)
    assert not ObservedRows().covers(window)
    assert not observed(window, window).covers(other)
    assert not observed(window).covers(acted_otherwise)


def test_a_window_of_which_only_a_part_was_observed_is_not_covered():
    window, rows = make_window(), ObservedRows()
    for step in list(transitions_of(window))[1:]:
        rows.add(step)
    assert not rows.covers(window)


def test_a_window_with_invalid_last_rows_and_nan_is_covered_by_its_own_rows():
    valid = np.ones(T * N, bool)
    valid[-N:] = False
    window = make_window(valid=valid)
    window.observations[-2 * N] = np.nan
    assert observed(window).covers(window)


def test_what_was_observed_may_be_written_over_later():
    window, rows = make_window(), ObservedRows()
    for step in transitions_of(window):
        rows.add(step)
        step.observations.fill(-5)
    assert rows.covers(window)
