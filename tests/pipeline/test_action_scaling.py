"""Actions in [-1, 1]: what the environment gets of them, and what is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from tensor_optix.core.decisions.validation import GreedyAgent
from tensor_optix.pipeline.action_scaling import (
    environment_actions,
    few_numbers_stretcher,
    kept_dtype,
)
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import wrap_env
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.pipeline.counting_env import Counter, collect
from tests.pipeline.row_envs import ShapedEnv
from tests.scripted import CountingAgent, OffPolicyAgent

NEVER_SEEN = Box(-1, 1, (1,), np.float32)
ODD = Box(np.array([-2, 0, 10], np.float32), np.array([2, 1, 40], np.float32))
BEFORE_TANH = np.tanh([[9.0, -9.0, 0.3]])
"""In float32 the first two would be 1 and -1, and what they were before the tanh infinite."""


class UnitAgent(OffPolicyAgent):
    """Always chooses one action."""

    has_unit_actions = True

    def __init__(self, action: Any) -> None:
        super().__init__()
        self.action = np.asarray(action)
        self.observed: list[np.ndarray] = []

    def act(self, observation: Any) -> Any:
        return self.action

    def observe(self, transitions: Any) -> None:
        self.observed.append(np.array(transitions.actions))


class PlainAgent(UnitAgent):
    has_unit_actions = False


def stretched(actions: Any, space: Any = ODD) -> np.ndarray:
    return environment_actions(UnitAgent(0.0), space, True)(np.asarray(actions))


def test_each_component_is_stretched_to_its_own_bounds():
    actions = [[-1, -1, -1], [1, 1, 1], [0, 0, 0], [0.5, -0.5, 0.2]]
    expected = [[-2, 0, 10], [2, 1, 40], [0, 0.5, 25], [1, 0.25, 28]]
    np.testing.assert_array_equal(stretched(actions), np.array(expected, np.float32))


@pytest.mark.parametrize(
    "space",
    [
        ODD,
        Box(-np.inf, np.inf, (2,), np.float64),
        Box(np.array([-np.inf, 3.0], np.float32), np.array([5.0, np.inf], np.float32)),
        Box(-3, 4, (2, 2), np.int8),
        Box(0, 2**64 - 1, (1,), np.uint64),
        Box(-2.0, 2.0, (), np.float16),
    ],
    ids=str,
)
def test_numbers_of_python_come_to_the_same_action(space):
    stretch, size = few_numbers_stretcher(space), int(np.prod(space.shape))
    rows = np.random.default_rng(0).uniform(-1, 1, (500, size))
    rows[:3] = [[-1.0] * size, [1.0] * size, [0.0] * size]
    expected = stretched(rows.reshape(-1, *space.shape), space)
    found = np.stack([stretch(row.tolist()) for row in rows])
    np.testing.assert_array_equal(found, expected)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_random_actions_follow_the_formula_within_the_bounds_and_in_the_dtype(dtype):
    rng = np.random.default_rng(0)
    low = rng.normal(0, 100, (5,))
    space = Box(low.astype(dtype), (low + rng.exponential(10, (5,))).astype(dtype), dtype=dtype)
    actions = np.concatenate(
        [rng.uniform(-1, 1, (1000, 5)), np.full((1, 5), 1.0), -np.ones((1, 5))]
    )
    found = stretched(actions, space)
    bounds = space.low.astype(np.float64), space.high.astype(np.float64)
    formula = bounds[0] + (actions + 1) / 2 * (bounds[1] - bounds[0])
    np.testing.assert_allclose(found, formula, rtol=1e-6 if dtype == np.float32 else 1e-12)
    assert found.dtype == dtype
    assert all(space.contains(row) for row in found)


def test_bounds_of_minus_one_and_one_leave_every_action_exactly_as_it_is():
    actions = np.random.default_rng(0).uniform(-1, 1, (100, 2)) * 1e-9
    space = Box(-1, 1, (2,), np.float64)
    np.testing.assert_array_equal(stretched(actions, space), actions)


def test_what_lies_beyond_the_unit_interval_is_clipped():
    np.testing.assert_array_equal(stretched([[1.1, -7, 2]]), [[2, 0, 40]])


def test_the_widest_bounds_that_are_finite_do_not_overflow():
    largest = np.finfo(np.float64).max
    space = Box(-largest, largest, (1,), np.float64)
    np.testing.assert_array_equal(stretched([[1.0], [-1.0]], space), [[largest], [-largest]])


def test_integer_bounds_get_the_nearest_whole_number():
    space = Box(0, 10, (1,), np.int32)
    found = stretched([[-1.0], [0.15], [0.79], [1.0]], space)
    assert found.tolist() == [[0], [6], [9], [10]]
    assert found.dtype == np.int32


def test_a_box_of_one_number_is_stretched_too():
    np.testing.assert_array_equal(stretched([0.5, -1.0], Box(0, 4, (), np.float32)), [3, 0])


@pytest.mark.parametrize("agent", [UnitAgent(0), PlainAgent(0)])
def test_discrete_actions_are_returned_as_they_are(agent):
    actions = np.array([0, 2])
    assert environment_actions(agent, Discrete(3), True)(actions) is actions
    assert kept_dtype(agent, Discrete(3)) == np.int64


def test_actions_of_other_agents_are_returned_as_they_are():
    actions = np.full((2, 3), 30, np.float32)
    assert environment_actions(PlainAgent(0.0), ODD, True)(actions) is actions
    assert kept_dtype(PlainAgent(0.0), ODD) == np.float32


def test_actions_are_never_broadcast():
    with pytest.raises(
        ValueError, match=r"one action of shape \(3,\).*got actions of shape \(4, 1\)"
    ):
        stretched(np.zeros((4, 1)))


PIPELINES = {
    "one": lambda env, **options: BatchPipeline(env=env, window_size=4, **options),
    "vector": lambda env, **options: VectorBatchPipeline([lambda: env], window_size=4, **options),
}


@pytest.fixture(params=PIPELINES)
def make_pipeline(request):
    return PIPELINES[request.param]


def test_the_environment_gets_the_stretched_action_and_the_window_keeps_the_agents(make_pipeline):
    """To the last bit of float64: the agent recovers from it what was before the tanh."""
    env, agent = ShapedEnv(NEVER_SEEN, ODD), UnitAgent(BEFORE_TANH[0])
    (window,) = collect(make_pipeline(env, agent=agent), 1)
    assert window.actions.dtype == np.float64
    np.testing.assert_array_equal(window.actions, np.repeat(BEFORE_TANH, 4, axis=0))
    np.testing.assert_array_equal(np.concatenate(agent.observed), window.actions)
    np.testing.assert_array_equal(env.actions, np.repeat(stretched(BEFORE_TANH), 4, axis=0))
    assert all(action.dtype == np.float32 for action in env.actions)


def test_float32_actions_are_kept_exactly(make_pipeline):
    env, action = ShapedEnv(NEVER_SEEN, ODD), np.array([0.1, 0.2, 0.3], np.float32)
    (window,) = collect(make_pipeline(env, agent=UnitAgent(action)), 1)
    assert (window.actions == action).all()


def test_without_rescaling_the_environment_gets_the_action_as_it_is(make_pipeline):
    env, agent = ShapedEnv(NEVER_SEEN, ODD), UnitAgent(BEFORE_TANH[0])
    (window,) = collect(make_pipeline(env, agent=agent, rescale_actions=False), 1)
    np.testing.assert_array_equal(window.actions, np.repeat(BEFORE_TANH, 4, axis=0))
    np.testing.assert_array_equal(env.actions, np.repeat(BEFORE_TANH, 4, axis=0).astype(np.float32))
    assert all(action.dtype == np.float32 for action in env.actions)


def test_nothing_changes_for_other_agents(make_pipeline):
    env = ShapedEnv(NEVER_SEEN, ODD)
    (window,) = collect(make_pipeline(env, agent=PlainAgent([0.5, 7.0, -3.0])), 1)
    assert window.actions.dtype == np.float32
    np.testing.assert_array_equal(window.actions, [[0.5, 7.0, -3.0]] * 4)
    np.testing.assert_array_equal(env.actions, window.actions)


HALVES = Box(np.array([-3, 5, -np.inf, -np.inf], "f4"), np.array([3, np.inf, 2, np.inf], "f4"))
"""Two bounds, the lower one only, the upper one only, none."""


def test_where_a_bound_is_missing_the_other_one_is_two_away_and_without_any_nothing_is_stretched(
    make_pipeline,
):
    for action, expected in {-1: [-3, 5, 0, -1], 0: [0, 6, 1, 0], 1: [3, 7, 2, 1]}.items():
        env = ShapedEnv(NEVER_SEEN, HALVES)
        (window,) = collect(make_pipeline(env, agent=UnitAgent([float(action)] * 4)), 1)
        np.testing.assert_array_equal(env.actions, [expected] * 4)
        np.testing.assert_array_equal(window.actions, [[action] * 4] * 4)


def test_what_lies_beyond_the_interval_of_an_unbounded_component_is_clipped():
    np.testing.assert_array_equal(stretched([[9.0] * 4, [-9.0] * 4], HALVES)[:, 3], [1, -1])


def test_unbounded_components_are_named_once_with_the_way_to_bound_them(caplog):
    bounds = np.array([[-1, -7.25], [-1, -np.inf]], np.float32)
    space = Box(bounds, -bounds)
    agent = UnitAgent(np.zeros((2, 2)))
    for make in (*PIPELINES.values(), *PIPELINES.values()):
        collect(make(ShapedEnv(NEVER_SEEN, space), agent=agent), 1)
    (record,) = caplog.records
    assert "without both bounds: 1, 1 of shape (2, 2)" in record.getMessage()
    assert "TransformAction(env, lambda action: 10 * action, Box(-1, 1, shape))" in caplog.text
    caplog.clear()
    stretched(np.zeros((1, 3, 1)), Box(-np.inf, np.inf, (3, 1), np.float64))
    assert "no component has both bounds" in caplog.text


def test_nothing_is_said_where_nothing_is_stretched(make_pipeline, caplog):
    space = Box(-np.inf, np.inf, (2,), np.float32)
    for agent, options in (
        (UnitAgent([0.5, 7.0]), {"rescale_actions": False}),
        (PlainAgent([0.5, 7.0]), {}),
    ):
        env = ShapedEnv(NEVER_SEEN, space)
        collect(make_pipeline(env, agent=agent, **options), 1)
        np.testing.assert_array_equal(env.actions, [[0.5, 7.0]] * 4)
    assert not caplog.records


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_integers_of_every_size_reach_their_ends_and_none_beyond(dtype):
    ends = np.iinfo(dtype)
    space = Box(ends.min, ends.max, (1,), dtype)
    found = stretched([[-1.0], [1.0]], space)
    assert int(found[0, 0]) == ends.min
    # In double precision the greatest numbers of 64 bits are thousands apart.
    assert 0 <= ends.max - int(found[1, 0]) <= ends.max * 2.0**-52
    assert all(space.contains(action) for action in found)


def test_unbounded_integers_are_whole_numbers_about_zero():
    space = Box(-np.inf, np.inf, (1,), np.int32)
    assert stretched([[-1.0], [-0.2], [0.9]], space).tolist() == [[-1], [0], [1]]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_never_reaches_the_environment(wrong):
    envs = [ShapedEnv(NEVER_SEEN, ODD) for _ in range(3)]
    agent = UnitAgent(np.zeros(3))
    agent.act_batch = lambda observations: np.array([[0, 0, 0], [0, wrong, 0], [0, 0, 0.0]])
    pipeline = VectorBatchPipeline([lambda env=env: env for env in envs], agent, 4)
    with pytest.raises(ValueError, match=r"finite actions, got .* in row 1 of 3"):
        next(pipeline.episodes())
    assert [env.actions for env in envs] == [[], [], []]
    pipeline.teardown()


def test_another_agent_between_two_windows_is_treated_as_it_wants(make_pipeline):
    env = ShapedEnv(NEVER_SEEN, ODD)
    pipeline = make_pipeline(env, agent=UnitAgent([1, 1, 1]))
    source = pipeline.episodes()
    first = next(source)
    pipeline.set_agent(PlainAgent([1, 1, 1]))
    second = next(source)
    pipeline.set_agent(GreedyAgent(UnitAgent([1, 1, 1])))
    third = next(source)
    np.testing.assert_array_equal(
        env.actions, [[2, 1, 40]] * 4 + [[1, 1, 1]] * 4 + [[2, 1, 40]] * 4
    )
    dtypes = [window.actions.dtype for window in (first, second, third)]
    assert dtypes == [np.float64, np.float32, np.float64]
    assert [window.episode_id for window in (first, second, third)] == [0, 1, 2]


class Weighted(Counter):
    """Pays its action."""

    def __init__(self) -> None:
        super().__init__(length=3)
        self.action_space = Box(0, 10, (1,), np.float32)

    def step(self, action: Any) -> Any:
        observation, _, *rest = super().step(action)
        return observation, float(action[0]), *rest


@pytest.mark.parametrize(
    ("agent", "options", "paid"),
    [
        (UnitAgent([0.5]), {}, 7.5),
        (UnitAgent([0.5]), {"rescale_actions": False}, 0.5),
        (PlainAgent([0.5]), {}, 0.5),
    ],
)
def test_episodes_are_played_as_windows_are_collected(agent, options, paid):
    returns, _ = play_episodes(agent, wrap_env(Weighted()), 2, **options)
    (window,) = collect(BatchPipeline(env=Weighted(), agent=agent, window_size=6, **options), 1)
    assert returns.tolist() == window.finished_returns.tolist() == [3 * paid] * 2


def test_agents_are_without_unit_actions_unless_they_say_otherwise():
    assert not CountingAgent().has_unit_actions
