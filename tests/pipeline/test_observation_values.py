"""Numbers that are not in the space: an error that names the environment, or one warning."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tensor_optix import BatchPipeline, VectorBatchPipeline
from tensor_optix.pipeline.envpool_env import EnvPoolEnv
from tests.scripted import CountingAgent

SPACE_AND_OUTSIDE = {
    "discrete above": (Discrete(3), 3),
    "discrete below": (Discrete(3), -1),
    "discrete below its start": (Discrete(3, start=2), 1),
    "discrete at its start's end": (Discrete(3, start=2), np.int32(5)),
    "multidiscrete": (MultiDiscrete([2, 3]), np.array([1, 3])),
    "multidiscrete below its start": (MultiDiscrete([2, 3], start=[1, 1]), np.array([1, 0])),
    "multidiscrete of axes": (MultiDiscrete([[2], [3]]), np.array([[2], [0]])),
    "multibinary": (MultiBinary(2), np.array([0, 2], np.int8)),
    "multibinary, as bytes": (MultiBinary((1, 2)), np.array([[-1, 0]])),
}


class Showing(gymnasium.Env[Any, Any]):
    """Shows the first of two observations after a reset, and the second after a step."""

    action_space = Discrete(2)

    def __init__(self, space: Any, first: Any, second: Any, length: int = 3) -> None:
        self.observation_space, self.first, self.second = space, first, second
        self.length = length

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.steps = 0
        return self.first, {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self.second, 0.0, self.steps == self.length, False, {}


class ShowingVector(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Two of them, in arrays that nobody checks."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012
    num_envs = 2
    single_action_space = Discrete(2)

    def __init__(self, space: Any, first: Any, second: Any) -> None:
        self.single_observation_space = space
        self.first, self.second = (np.stack([first, each]) for each in (first, second))

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return self.first, {}

    def step(self, actions: Any) -> Any:
        return self.second, np.zeros(2), np.zeros(2, bool), np.zeros(2, bool), {}


def single(*shown: Any) -> Any:
    return BatchPipeline(Showing(*shown), CountingAgent(), 4)


def several(*shown: Any) -> Any:
    return VectorBatchPipeline([lambda: Showing(*shown)] * 2, CountingAgent(), 4)


def users_sync(*shown: Any) -> Any:
    vector = SyncVectorEnv([lambda: Showing(*shown)] * 2)
    return VectorBatchPipeline(env=vector, agent=CountingAgent(), window_size=4)


def users_own(*shown: Any) -> Any:
    return VectorBatchPipeline(env=ShowingVector(*shown), agent=CountingAgent(), window_size=4)


NAMES = {
    single: "environment Showing: step",
    several: r"environment 0 \(Showing\): step",
    users_sync: "vector environment SyncVectorEnv: step",
    users_own: "vector environment ShowingVector: step",
}


@pytest.mark.parametrize("door", NAMES)
@pytest.mark.parametrize("kind", SPACE_AND_OUTSIDE)
def test_numbers_outside_a_space_of_whole_numbers_are_refused(kind, door):
    space, outside = SPACE_AND_OUTSIDE[kind]
    inside = np.array(getattr(space, "start", 0)) + np.zeros(space.shape, space.dtype)
    pipeline = door(space, inside, outside)
    pipeline.setup()
    message = rf"^{NAMES[door]} must return observations within the observation space .*, got "
    with pytest.raises(ValueError, match=message):
        next(iter(pipeline.episodes()))


@pytest.mark.parametrize("kind", SPACE_AND_OUTSIDE)
def test_those_of_a_reset_are_too(kind):
    space, outside = SPACE_AND_OUTSIDE[kind]
    for door in (single, several):
        with pytest.raises(ValueError, match="reset must return observations within the observat"):
            door(space, outside, outside).setup()


@pytest.mark.parametrize(
    ("space", "least", "largest"),
    [
        (Discrete(3, start=-1), -1, 1),
        (MultiDiscrete([2, 3], start=[4, -1]), np.array([4, -1]), np.array([5, 1])),
        (MultiBinary(2), np.zeros(2, int), np.ones(2, int)),
    ],
    ids=str,
)
def test_the_limits_themselves_are_inside(space, least, largest):
    for door in (several, users_own):
        window = next(iter(door(space, least, largest).episodes()))
        shown = np.array([window.observations[0], window.observations[-1]])
        np.testing.assert_array_equal(shown, [least, largest])


def test_a_number_outside_is_placed():
    pipeline = users_own(MultiDiscrete([2, 3]), np.array([0, 0]), np.array([1, 3]))
    with pytest.raises(
        ValueError, match=r"MultiDiscrete\(\[2 3\]\), got 3 in element 1 from environ.* 1:"
    ):
        next(iter(pipeline.episodes()))


def test_envpools_numbers_are_held_to_their_space():
    envpool = pytest.importorskip("envpool")

    pool = envpool.make("Taxi-v3", env_type="gymnasium", num_envs=2, seed=0)
    right = pool.recv

    def wrong() -> Any:
        observations, *rest = right()
        return (observations + 500, *rest)

    env = EnvPoolEnv(pool)
    env.reset()
    pool.recv = wrong
    with pytest.raises(ValueError, match=r"^environment \w+ must return .*Discrete\(500\), got"):
        env.recv()
    pool.close()


def test_doubles_that_overflow_are_refused_and_not_made_infinite():
    for door in (single, several, users_own):
        name, first, second = NAMES[door], np.zeros(2), np.array([0.0, -1e39])
        with pytest.raises(
            ValueError, match=rf"^{name} must return observations within float32, .*-1e\+39"
        ):
            next(iter(door(Box(-1, 1, (2,), np.float32), first, second).episodes()))


class Learning(CountingAgent):
    """Computes in float32, as ready-made agents do."""

    sees_rows = True


class Observing(Learning):
    """Learns while collecting."""

    is_on_policy = False


@pytest.mark.parametrize("length", [1, 9])
@pytest.mark.parametrize("agent", [Learning, Observing])
def test_doubles_that_an_agent_would_see_as_infinite_are_refused(agent, length):
    space, large = Box(-np.inf, np.inf, (2,), np.float64), np.array([0.0, 1e39])
    said = r"must be finite in float32, got 1e\+39 in element 1 from environment 0 at step"
    with pytest.raises(ValueError, match=f"^(final )?observations {said}"):
        next(iter(BatchPipeline(Showing(space, np.zeros(2), large, length), agent(), 3).episodes()))
    with pytest.raises(ValueError, match=f"^observations {said} 0 of window 0"):
        BatchPipeline(Showing(space, large, large), agent(), 3).setup()
    own = BatchPipeline(Showing(space, large, large), CountingAgent(), 3)
    assert next(iter(own.episodes())).observations.max() == 1e39


BOX = Box(np.array([-1, 0], np.float32), np.array([1, np.inf], np.float32))


def told(caplog: Any) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("door", NAMES)
def test_numbers_outside_a_box_are_said_once(door, caplog):
    pipeline = door(BOX, np.zeros(2, np.float32), np.array([0.5, -0.25], np.float32))
    for _ in range(2):
        pipeline.setup()
        list(itertools.islice(pipeline.episodes(), 3))
    pipeline.restart()
    next(iter(pipeline.episodes()))
    (message,) = told(caplog)
    name = "environment Showing" if door is not users_own else "vector environment ShowingVector"
    assert message == (
        f"{name}: observations leave the bounds of their space, element 1 of the observation is -0.25, "
        "outside [0.0, inf]. They are taken as they are: widen the bounds if this is meant"
    )


def test_an_environments_id_is_its_name(caplog):
    gymnasium.register(
        "Leaving-v0",
        lambda: Showing(BOX, np.zeros(2), np.array([3.0, 0.0])),
        disable_env_checker=True,
    )
    pipeline = BatchPipeline(env_id="Leaving-v0", agent=CountingAgent(), window_size=2)
    next(iter(pipeline.episodes()))
    twin = pipeline.twin()
    twin.set_agent(CountingAgent())
    next(iter(twin.episodes()))
    (message,) = told(caplog)
    assert message.startswith("Leaving-v0: observations leave")
    assert "element 0 of the observation is 3.0, outside [-1.0, 1.0]" in message


def test_the_last_observation_of_an_episode_is_looked_at(caplog):
    env = Showing(BOX, np.zeros(2, np.float32), np.array([7, 0], np.float32), length=1)
    next(iter(BatchPipeline(env, CountingAgent(), 3).episodes()))
    assert "element 0 of the observation is 7.0" in told(caplog)[0]


def test_whole_numbers_of_several_axes_are_placed(caplog):
    shown = np.array([[0, 0], [0, 9]], np.uint8)
    next(iter(single(Box(0, 8, (2, 2), np.uint8), shown, shown).episodes()))
    assert "element 1, 1 of the observation is 9, outside [0, 8]" in told(caplog)[0]


def test_the_part_is_named(caplog):
    space = Dict(goal=Box(-1, 1, (2,), np.float64), kind=Discrete(2))
    shown = {"goal": np.array([0.0, 2.0]), "kind": 1}
    next(iter(several(space, shown, shown).episodes()))
    assert "element 1 of goal is 2.0, outside [-1.0, 1.0]" in told(caplog)[0]


@pytest.mark.parametrize(
    ("space", "shown"),
    [
        (BOX, np.array([1 + 5e-6, -5e-6], np.float32)),
        (Box(-4e6, 4e6, (1,), np.float64), np.array([4e6 + 1])),
        (Box(0, 255, (2,), np.uint8), np.array([0, 255], np.uint8)),
        (Box(-np.inf, np.inf, (1,), np.float32), np.array([3e38], np.float32)),
        (Box(0, 1, (2,), np.bool_), np.array([True, False])),
        (Discrete(3), 2),
    ],
    ids=str,
)
def test_what_is_inside_or_rounded_is_not_remarked_upon(space, shown, caplog):
    next(iter(single(space, shown, shown).episodes()))
    assert told(caplog) == []


def test_a_later_window_is_not_looked_at(caplog):
    env = Showing(BOX, np.zeros(2, np.float32), np.zeros(2, np.float32))
    windows = BatchPipeline(env, CountingAgent(), 2).episodes()
    next(windows)
    env.second = np.array([9, 9], np.float32)
    next(windows)
    assert told(caplog) == []
