"""Actions in rows, counted from 0: what every kind of environment gets of them, and what is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from tensor_optix.core.decisions.validation import GreedyAgent
from tensor_optix.pipeline.action_scaling import environment_actions, kept_dtype, kept_shape
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.live_pipeline import LivePipeline
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import wrap_env
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.pipeline.counting_env import Counter, collect
from tests.scripted import OffPolicyAgent

SHIFTED = MultiDiscrete([[2, 3], [4, 5]], start=[[0, 10], [-3, 7]])
STRETCHED = Box(np.array([[-2, 0], [10, -1]], "f4"), np.array([[2, 1], [40, 1]], "f4"))
FORMS: dict[str, tuple[Any, Any, Any]] = {
    "a number": (Discrete(3), 2, 2),
    "a number from another start": (Discrete(3, start=5), 2, 7),
    "a number from below zero": (Discrete(4, start=-2), 0, -2),
    "choices": (MultiDiscrete([2, 3]), [1, 2], [1, 2]),
    "choices of small numbers": (MultiDiscrete([2, 3], dtype=np.int8), [1, 2], [1, 2]),
    "choices without a sign": (MultiDiscrete([2, 250], dtype=np.uint8), [1, 249], [1, 249]),
    "choices of two axes and several starts": (SHIFTED, [1, 2, 3, 4], [[1, 12], [0, 11]]),
    "bits": (MultiBinary(3), [0, 1, 1], [0, 1, 1]),
    "bits of two axes": (MultiBinary((2, 2)), [0, 1, 1, 0], [[0, 1], [1, 0]]),
    "a Box of two axes": (STRETCHED, [-1.0, 0.0, 1.0, 0.5], [[-2, 0.5], [40, 0.5]]),
    "a Box without an axis": (Box(0, 4, (), np.float32), [0.5], 3),
    "whole numbers of two axes": (Box(0, 8, (1, 2), np.int32), [0.5, -1.0], [[6, 0]]),
    "a Box without bounds": (
        Box(-np.inf, np.inf, (2, 1), np.float64),
        [0.5, -0.5],
        [[0.5], [-0.5]],
    ),
}


class Row(OffPolicyAgent):
    """Always gives one row of numbers."""

    counts_from_zero = True

    def __init__(self, action: Any) -> None:
        super().__init__()
        self.action = np.asarray(action)
        self.has_unit_actions = self.action.dtype.kind == "f"
        self.observed: list[Any] = []

    def act(self, observation: Any) -> Any:
        return self.action

    def observe(self, transitions: Any) -> None:
        self.observed.append(np.array(transitions.actions))


class Strict(Counter):
    """Takes nothing but elements of its action space, and keeps them."""

    def __init__(self, space: Any) -> None:
        super().__init__(length=3)
        self.action_space = space
        self.actions: list[Any] = []

    def step(self, action: Any) -> Any:
        # Gymnasium's own vectors hand on a Box without an axis as a scalar.
        element = np.asarray(action) if isinstance(action, np.generic) else action
        assert self.action_space.contains(element), (self.action_space, action)
        self.actions.append(action)
        return super().step(action)


PIPELINES = {
    "one": lambda env, agent: BatchPipeline(env=env, agent=agent, window_size=4),
    "vector": lambda env, agent: VectorBatchPipeline([lambda: env], agent, 4),
    "side by side": lambda env, agent: VectorBatchPipeline(
        [lambda: env, lambda: Strict(env.action_space)], agent, 4
    ),
}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


@pytest.mark.parametrize("make", PIPELINES.values(), ids=PIPELINES)
def test_the_environment_gets_an_element_of_its_space_and_the_window_keeps_the_row(form, make):
    space, given, expected = form
    env, agent = Strict(space), Row(given)
    (window,) = collect(make(env, agent), 1)
    np.testing.assert_array_equal(np.array(env.actions)[:3], [expected] * 3)
    rows = 4 * window.num_envs
    assert window.actions.shape == (rows, *np.shape(given))
    assert window.actions.dtype == (np.float64 if agent.has_unit_actions else np.int64)
    np.testing.assert_array_equal(window.actions, [given] * rows)
    np.testing.assert_array_equal(np.concatenate(agent.observed)[:3], [given] * 3)


def test_episodes_are_played_with_the_same_actions(form):
    space, given, expected = form
    env = Strict(space)
    returns, _ = play_episodes(Row(given), wrap_env(env), 2)
    assert returns.tolist() == [3.0, 3.0]
    np.testing.assert_array_equal(env.actions[0], expected)


def test_greedy_actions_go_the_same_way(form):
    space, given, expected = form
    agent = GreedyAgent(Row(given))
    env = Strict(space)
    collect(BatchPipeline(env=env, agent=agent, window_size=2), 1)
    np.testing.assert_array_equal(env.actions, [expected] * 2)


def test_a_live_system_gets_them_too(form):
    space, given, expected = form
    sent = []

    class Source:
        def stream(self):
            for n in range(3):
                yield np.zeros(2, np.float32), 1.0, n == 2, False, {}

        def send_action(self, action):
            sent.append(action)

    pipeline = LivePipeline(
        Source(), Row(given), reconnect_on_disconnect=False, reward_delay=1, action_space=space
    )
    (window,) = list(pipeline.episodes())
    pipeline.teardown()
    np.testing.assert_array_equal(sent, [expected] * 2)
    assert all(np.asarray(action).shape == space.shape for action in sent)
    np.testing.assert_array_equal(window.actions, [given] * 2)


class Own(Row):
    """An agent of the user's, which acts in the environment's own terms."""

    counts_from_zero = False


@pytest.mark.parametrize("name", [name for name in FORMS if "Box" not in name])
def test_an_agent_of_the_users_own_acts_in_the_environments_terms(name):
    space = FORMS[name][0]
    action = space.sample()
    env, agent = Strict(space), Own(action)
    agent.has_unit_actions = False
    (window,) = collect(BatchPipeline(env=env, agent=agent, window_size=2), 1)
    np.testing.assert_array_equal(env.actions, [action] * 2)
    np.testing.assert_array_equal(window.actions, [action] * 2)
    assert window.actions.dtype == space.dtype


def test_its_unit_actions_keep_the_shape_of_the_space():
    agent, env = Own(np.full((2, 2), 1.0)), Strict(STRETCHED)
    (window,) = collect(BatchPipeline(env=env, agent=agent, window_size=2), 1)
    np.testing.assert_array_equal(env.actions, [STRETCHED.high] * 2)
    assert window.actions.shape == (2, 2, 2)
    assert kept_shape(agent, STRETCHED) == (2, 2)


def test_rows_are_neither_copied_nor_changed_where_they_are_elements_already():
    actions = np.array([[0, 2], [1, 1]])
    assert environment_actions(Row([0, 0]), MultiDiscrete([2, 3]), True)(actions) is actions
    assert kept_dtype(Row([0, 0]), MultiDiscrete([2, 3])) == np.int64


@pytest.mark.parametrize("given", [[0, 1], [0, 1, 1, 0, 0], 1])
def test_a_row_of_another_length_is_refused(given):
    pipeline = BatchPipeline(env=Strict(SHIFTED), agent=Row(given), window_size=2)
    with pytest.raises(ValueError, match=r"act must give actions of shape \(4,\) for each"):
        next(pipeline.episodes())


def test_without_rescaling_a_row_gets_the_shape_and_nothing_else():
    env = Strict(STRETCHED)
    agent = Row([0.5, 0.5, 10.0, 0.0])
    pipeline = BatchPipeline(env=env, agent=agent, window_size=2, rescale_actions=False)
    collect(pipeline, 1)
    np.testing.assert_array_equal(env.actions, [[[0.5, 0.5], [10, 0]]] * 2)
