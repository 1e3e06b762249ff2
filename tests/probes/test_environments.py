"""The probes' environments: that they are what their answers suppose."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from tests.probes.catalogue import ACTION_PROBES, VALUE_PROBES, Probe, make_probe
from tests.probes.environments import ProbeEnv, Task, probe_action_space, state_observations

KINDS = list(itertools.product(["vector", "image"], ["discrete", "box"]))
ALL_PROBES = [*VALUE_PROBES, *ACTION_PROBES]


def play(env: ProbeEnv, steps: int, seed: int = 0) -> list[tuple[Any, ...]]:
    """Take random actions; return (observation, action, reward, next one, terminated, truncated)."""
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    rows = []
    for _ in range(steps):
        action = env.action_space.sample()
        following, reward, terminated, truncated, _ = env.step(action)
        rows.append((observation, action, reward, following, terminated, truncated))
        observation = env.reset()[0] if terminated or truncated else following
    return rows


def solve(probe: Probe, rows: list[tuple[Any, ...]]) -> np.ndarray:
    """Iterate `V(s) = r + gamma * V(s')` over what was seen, until it stands still."""
    size = len(probe.observations)
    known = probe.observations.reshape(size, -1)

    def state(observation: np.ndarray) -> int:
        return int(np.flatnonzero((known == observation.reshape(1, -1)).all(axis=1))[0])

    table = {state(row[0]): (row[2], state(row[3]), row[4]) for row in rows}
    values = np.zeros(size)
    for _ in range(300):
        for s, (reward, following, terminated) in table.items():
            values[s] = reward + probe.answer.gamma * (not terminated) * values[following]
    return values


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("name", VALUE_PROBES)
def test_the_expected_values_are_those_of_the_environment(name, kinds):
    probe = make_probe(name, *kinds)
    envs = [probe.make_env(env_id) for env_id in range(probe.answer.num_envs)]
    rows = [row for env in envs for row in play(env, 60)]
    np.testing.assert_allclose(solve(probe, rows), probe.values, atol=1e-6)


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("name", ACTION_PROBES)
def test_no_action_pays_more_than_the_expected_ones(name, kinds):
    probe = make_probe(name, *kinds)
    for row in play(probe.make_env(), 60):
        state = next(i for i, obs in enumerate(probe.observations) if (obs == row[0]).all())
        best = ProbeEnv(probe.answer.task, probe.observations, probe.action_space, state)
        best.reset()
        right = np.asarray(probe.actions[state], probe.action_space.dtype)
        assert row[2] <= best.step(right)[1]


@pytest.mark.parametrize("name", ACTION_PROBES)
def test_the_best_box_actions_are_out_of_reach_of_actions_that_are_not_stretched(name):
    probe = make_probe(name, action="box")
    assert (np.abs(probe.actions) > 1.0 + probe.answer.tolerance).all()
    assert all(probe.action_space.contains(a.astype(np.float32)) for a in probe.actions)


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("name", ALL_PROBES)
def test_observations_are_in_the_space_and_the_same_seed_gives_the_same_play(name, kinds):
    probe = make_probe(name, *kinds)
    env = probe.make_env()
    first, again = play(env, 20, seed=3), play(probe.make_env(), 20, seed=3)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        assert (one[2], one[4:]) == (other[2], other[4:])
        assert env.observation_space.contains(one[0])
        assert env.observation_space.contains(one[3])


def test_a_time_limit_truncates_and_does_not_terminate():
    rows = play(make_probe("time limit").make_env(), 10)
    assert [row[5] for row in rows] == [False, False, False, False, True] * 2
    assert not any(row[4] for row in rows)


def test_environments_out_of_phase_are_so_again_after_a_seeded_reset():
    probe = make_probe("ends within a window")
    for env_id, phase in enumerate((0, 2, 4, 1)):
        env = probe.make_env(env_id)
        for _ in range(2):
            observations = [row[0].argmax() for row in play(env, 7)]
            assert observations == [(phase + i) % 5 for i in range(7)]


def test_environments_with_a_home_of_their_own_always_begin_there():
    probe = make_probe("time limits side by side")
    for env_id in range(4):
        assert all(row[0].argmax() == env_id for row in play(probe.make_env(env_id), 10))


def test_both_starts_are_drawn():
    rows = play(make_probe("value of the observation").make_env(), 40)
    assert 10 < sum(row[0][0] > 0 for row in rows) < 30


def test_a_step_without_an_episode_and_an_action_out_of_bounds_are_refused():
    env = make_probe("discounting", action="box").make_env()
    with pytest.raises(RuntimeError, match="no episode is under way"):
        env.step(np.zeros(1, np.float32))
    env.reset()
    with pytest.raises(ValueError, match=r"an action of Box.* was expected"):
        env.step(np.full(1, 2.5, np.float32))
    one_step = make_probe("constant reward").make_env()
    one_step.reset()
    one_step.step(0)
    with pytest.raises(RuntimeError, match="reset the environment first"):
        one_step.step(0)


def test_kinds_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match='kind must be "vector" or "image"'):
        state_observations(2, "text")
    with pytest.raises(ValueError, match="num_states must be at most 8, got 9"):
        state_observations(9, "image")
    with pytest.raises(ValueError, match='kind must be "discrete" or "box"'):
        probe_action_space("dict")


def test_an_observation_once_given_does_not_change():
    env = ProbeEnv(
        Task((1, 0), (0.0, 0.0)), state_observations(2, "vector"), probe_action_space("box")
    )
    first, _ = env.reset()
    kept = first.copy()
    first[:] = 9.0
    assert env.reset()[0] == kept
