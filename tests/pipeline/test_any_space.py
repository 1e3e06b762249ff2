"""One plain environment of any spaces, stepped by an agent of the user's own."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    MultiBinary,
    OneOf,
    Sequence,
    Space,
    Text,
    Tuple,
)
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import SyncVectorEnv

from tensor_optix import BatchPipeline, LivePipeline, VectorBatchPipeline
from tensor_optix.core.decisions.validation import GreedyAgent
from tensor_optix.core.foreign_agent import as_actor
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import from_env_fns, wrap_env
from tests.core.array_agent import ArrayAgent
from tests.pipeline.any_space_env import LENGTH, BufferedEnv, SampledEnv, Words

VECTOR = Box(-1, 1, (2,), np.float32)
SPACES: list[Space[Any]] = [
    Dict(position=VECTOR, inner=Dict(kind=Discrete(3))),
    Tuple((Discrete(2), Discrete(3))),
    Tuple((VECTOR, Discrete(3))),
    Text(5),
    Sequence(VECTOR),
    Graph(VECTOR, Discrete(2)),
    OneOf((Discrete(2), VECTOR)),
    Words(),
]
each_space = pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)


class Sampling:
    """Any object with `act`: gives samples of a space, and notes what it saw and gave."""

    def __init__(self, space: Space[Any]) -> None:
        self.space = space
        self.seen: list[Any] = []
        self.given: list[Any] = []

    def act(self, observation: Any) -> Any:
        self.seen.append(observation)
        self.given.append(self.space.sample())
        return self.given[-1]


class ByBatch(Sampling):
    """Has a greedy method of its own, for rows of objects."""

    def act_greedy(self, observations: Any) -> Any:
        return [self.act(observation) for observation in observations]


class Picking(ArrayAgent):
    """A subclass with its own `act`, which picks the target of `BufferedEnv` and reuses its one action."""

    def __init__(self) -> None:
        super().__init__()
        self._action: dict[str, Any] = {"strength": np.zeros(2, np.float32)}

    def act(self, observation: Any) -> Any:
        self._action["pick"] = observation["target"]
        self._action["strength"][:] = observation["past"]
        return self._action


def same(mine: Any, theirs: Any) -> bool:
    return len(mine) == len(theirs) and all(
        data_equivalence(one, other) for one, other in zip(mine, theirs, strict=True)
    )


def collected(env: Any, agent: Any, rows: int = 6) -> Any:
    return next(iter(BatchPipeline(env, agent, rows, seed=3).episodes()))


@each_space
def test_observations_of_any_space_come_as_the_environment_gave_them(space):
    env, agent = SampledEnv(space, Discrete(3)), Sampling(Discrete(3))
    window = collected(env, agent)
    # The environment shows the last observation of an episode, then the first of the next.
    acted_on = [one for number, one in enumerate(env.shown[:8]) if number != LENGTH]
    assert (window.observations.dtype, window.observations.shape) == (np.dtype(object), (6,))
    assert same(agent.seen, acted_on[:6])
    assert same(window.observations, acted_on[:6])
    assert same(window.observations[2:4], acted_on[2:4])
    assert same([window.final_obs], acted_on[6:])
    assert same(window.end_observations, env.shown[LENGTH : LENGTH + 1])
    assert window.actions.tolist() == agent.given
    assert window.actions.dtype == np.int64
    assert window.rewards == [1, 2, 3, 4, 1, 2]
    assert window.finished_returns.tolist() == [10.0]
    assert window.episode_starts == [0, 4]


@each_space
def test_actions_of_any_space_reach_the_environment_as_the_agent_gave_them(space):
    env, agent = SampledEnv(VECTOR, space), Sampling(space)
    window = collected(env, agent)
    assert (window.actions.dtype, window.actions.shape) == (np.dtype(object), (6,))
    assert same(env.got, agent.given)
    assert same(window.actions, agent.given)
    assert window.observations.dtype == np.float32
    assert window.observations.shape == (6, 2)


@pytest.mark.parametrize("make", [Sampling, ByBatch])
@each_space
def test_greedy_actions_are_given_as_they_are_too(space, make):
    env, agent = SampledEnv(space, space), make(space)
    window = collected(env, GreedyAgent(as_actor(agent)))
    assert same(env.got, agent.given)
    assert same(window.observations, agent.seen)
    returns, lengths = play_episodes(agent, wrap_env(env), 2)
    assert (returns.tolist(), lengths.tolist()) == ([10.0, 10.0], [4, 4])
    assert same(env.got, agent.given)


@each_space
def test_a_greedy_agent_gives_one_action_as_the_agent_gives_it(space):
    agent = Sampling(space)
    observation = space.sample()
    action = GreedyAgent(as_actor(agent)).act(observation)
    assert action is agent.given[0]
    assert agent.seen[0] is observation


def test_rows_stay_true_though_environment_and_agent_reuse_their_objects():
    pipeline = BatchPipeline(BufferedEnv(), Picking(), 6)
    first, second, third = itertools.islice(pipeline.episodes(), 3)
    steps = [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    for window, numbers in zip((first, second, third), np.split(np.array(steps), 3), strict=True):
        assert [one["past"].tolist() for one in window.observations] == [[n, n] for n in numbers]
        assert [one["target"] for one in window.observations] == [n % 3 for n in numbers]
        assert [one["pick"] for one in window.actions] == [n % 3 for n in numbers]
        assert [one["strength"].tolist() for one in window.actions] == [[n, n] for n in numbers]
        assert window.rewards == [1.0] * 6
        assert all(one["past"].tolist() == [4, 4] for one in window.end_observations)
    assert first.final_obs["past"].tolist() == [2, 2]
    assert second.final_obs is None
    assert (len(first.end_observations), len(second.end_observations)) == (1, 2)


def test_an_agent_that_acts_on_batches_gets_rows_of_objects():
    class Batched(Picking):
        def act_batch(self, observations):
            assert observations.shape == (1,)
            return np.array([observation["target"] for observation in observations])

    env = SampledEnv(BufferedEnv.observation_space, Discrete(3))
    window = collected(env, Batched())
    assert window.actions.tolist() == [one["target"] for one in window.observations]


def test_an_agent_that_learns_while_collecting_sees_the_objects():
    class Observing(Picking):
        is_on_policy = False

        def observe(self, transitions):
            self.transitions = [*getattr(self, "transitions", []), transitions]

    agent = Observing()
    collected(BufferedEnv(), agent)
    assert [int(one.observations[0]["past"][0]) for one in agent.transitions] == [0, 1, 2, 3, 0, 1]
    following = [int(one.next_observations[0]["past"][0]) for one in agent.transitions]
    assert following == [1, 2, 3, 4, 1, 2]
    assert [one.actions[0]["pick"] for one in agent.transitions] == [0, 1, 2, 0, 0, 1]


@pytest.mark.parametrize(
    ("role", "space"),
    [("action", space) for space in SPACES]
    + [("observation", space) for space in SPACES if not isinstance(space, Dict | Tuple)],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_several_environments_refuse_them_and_name_the_way(space, role):
    spaces = (space, Discrete(2)) if role == "observation" else (VECTOR, space)
    said = rf"unsupported {role} space .*vector environment: expected Box.*BatchPipeline\(env=\.\.\.\).*own$"
    with pytest.raises(ValueError, match=said):
        VectorBatchPipeline([lambda: SampledEnv(*spaces)] * 2, Sampling(space)).setup()
    vector = SyncVectorEnv([lambda: SampledEnv(*spaces)])
    for pipeline in (VectorBatchPipeline, BatchPipeline):
        with pytest.raises(ValueError, match=said):
            pipeline(env=vector, agent=Sampling(space)).setup()


def test_one_environment_that_a_function_makes_is_taken():
    env = from_env_fns([BufferedEnv])
    returns, _ = play_episodes(Picking(), env, 3)
    assert returns.tolist() == [4.0, 4.0, 4.0]


def test_rewards_and_flags_are_checked_as_ever():
    class Unpaid(BufferedEnv):
        def step(self, action):
            return self._show(), float("nan"), False, False, {}

    with pytest.raises(
        ValueError, match="rewards must be finite, got nan from environment 0 at step 0"
    ):
        collected(Unpaid(), Picking())


def test_a_live_action_space_is_one_with_arrays():
    class Silent:
        def stream(self):
            return iter(())

    with pytest.raises(ValueError, match=r"action_space must be a Box, .*got Dict.*: leave it out"):
        LivePipeline(Silent(), action_space=BufferedEnv.action_space)


def test_an_ordinary_part_beside_it_is_checked_as_ever():
    class Wrong(SampledEnv):
        def _show(self):
            return np.zeros(3, np.float32)

    with pytest.raises(ValueError, match=r"of the shape \(2,\).*got \(3,\)"):
        collected(Wrong(VECTOR, Words()), Sampling(Words()))
    with pytest.raises(ValueError, match=r"act must give actions of shape \(4,\)"):
        collected(SampledEnv(Words(), MultiBinary(4)), Sampling(MultiBinary(3)))
