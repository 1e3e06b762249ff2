"""The door for environments: what is taken as it comes, and what is refused in one line."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.checked_env import CheckedEnv
from tensor_optix.pipeline.vector_env import wrap_env
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.pipeline.counting_env import Counter, collect
from tests.scripted import CountingAgent

if TYPE_CHECKING:
    from collections.abc import Callable


class Alike:
    """Has what an environment has, and is no `gymnasium.Env`."""

    def __init__(self) -> None:
        self.observation_space = Box(-9, 9, (2,), np.float32)
        self.action_space = Discrete(2)
        self.seeds: list[int | None] = []
        self.steps = 0
        self.closed = False

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.seeds.append(seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> Any:
        self.steps += 1
        return np.full(2, self.steps, np.float32), 1.0, self.steps == 3, False, {}

    def close(self) -> None:
        self.closed = True


class Seedless(Alike):
    """Resets without arguments; nothing can be closed."""

    close = None  # type: ignore[assignment]

    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


class SeededApart(Seedless):
    """Is seeded by a method, as gym's environments were before 0.26."""

    def seed(self, seed: int) -> None:
        self.seeds.append(seed)


def batch(make: Any) -> Any:
    return BatchPipeline(env=make(), agent=CountingAgent(), window_size=7)


def vector(make: Any) -> Any:
    return VectorBatchPipeline([make] * 3, CountingAgent(), window_size=7)


def one_function(make: Any) -> Any:
    return VectorBatchPipeline([make], CountingAgent(), window_size=7)


def workers(make: Any) -> Any:
    return VectorBatchPipeline([make] * 2, CountingAgent(), window_size=7, async_envs=True)


DOORS = [batch, vector, one_function]


@pytest.mark.parametrize("door", [*DOORS, workers])
@pytest.mark.parametrize("kind", [Alike, Seedless, SeededApart])
def test_an_object_with_reset_step_and_spaces_is_an_environment(kind, door):
    pipeline = door(kind)
    window = collect(pipeline, 1)[0]
    pipeline.teardown()
    assert window.finished_returns.tolist() == [3.0] * len(window.finished_returns)
    assert window.observations[1].tolist() in ([1.0, 1.0], [0.0, 0.0])


def test_the_seed_reaches_it_in_the_way_that_it_knows(caplog):
    kinds = Alike, SeededApart, Seedless
    envs = [kind() for kind in kinds]
    for env in envs:
        adapter = wrap_env(env)
        adapter.reset(5)
        adapter.reset(6)
    assert [env.seeds for env in envs] == [[5, 6], [5, None, 6, None], [None, None]]
    assert caplog.text.count("is ignored") == 1
    assert "seed 5 is ignored: Seedless.reset takes none" in caplog.text
    assert "Alike" not in caplog.text


def test_a_number_by_the_name_of_seed_is_no_method():
    env = Seedless()
    env.seed = 3
    wrap_env(env).reset(5)
    assert env.seeds == [None]


def test_what_the_library_made_of_functions_is_closed_where_it_can_be():
    made: list[Any] = []

    def make(kind: type) -> Callable[[], Any]:
        return lambda: made.append(kind()) or made[-1]

    for kind in (Alike, Seedless):
        pipeline = VectorBatchPipeline([make(kind)], CountingAgent())
        pipeline.setup()
        pipeline.teardown()
    assert made[0].closed
    own = Alike()
    wrap_env(own).close()
    assert not own.closed


@pytest.mark.parametrize("attribute", ["observation_space", "action_space"])
def test_a_missing_space_is_named_with_what_to_set(attribute):
    env = Alike()
    delattr(env, attribute)
    message = (
        rf"Alike\.{attribute} must be a space of gymnasium\.spaces, got none: set the attribute"
    )
    for door in DOORS:
        with pytest.raises(TypeError, match=message):
            door(lambda: env).setup()
    with pytest.raises(TypeError, match=message):
        BatchPipeline(env=env)
    setattr(env, attribute, (2,))
    with pytest.raises(TypeError, match=r"got builtins\.tuple"):
        BatchPipeline(env=env)


def test_a_class_in_the_place_of_an_environment_is_refused_at_once():
    for pipeline in (BatchPipeline, VectorBatchPipeline):
        with pytest.raises(TypeError, match=r"got the class Counter: make one, Counter\(\)"):
            pipeline(env=Counter)
        with pytest.raises(TypeError, match="an object with reset and step, got dict"):
            pipeline(env={})


@pytest.mark.parametrize("made", [Counter, None, "CartPole-v1", 3])
def test_a_function_that_makes_something_else_is_refused(made):
    with pytest.raises(TypeError, match="env must be"):
        vector(lambda: made).setup()


def test_a_function_that_makes_a_vector_is_refused():
    vectors = gymnasium.vector.SyncVectorEnv([Counter])
    with pytest.raises(
        TypeError, match=r"env_fns\[0\] made the vector environment SyncVectorEnv: give"
    ):
        vector(lambda: vectors).setup()


class Altered(Counter):
    """Answers by what `of_reset` and `of_step` make of the right answers."""

    def __init__(self, of_reset: Any = None, of_step: Any = None) -> None:
        super().__init__()
        self.of_reset, self.of_step = of_reset, of_step

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        answer = super().reset(seed=seed)
        return self.of_reset(*answer) if self.of_reset else answer

    def step(self, action: int) -> Any:
        answer = super().step(action)
        return self.of_step(*answer) if self.of_step else answer


def refused(door: Any, altered: Any, message: str) -> None:
    who = r"environment Altered" if door is batch else r"environment 0 \(Altered\)"
    with pytest.raises((TypeError, ValueError), match=f"^{who}: {message}") as error:
        collect(door(altered), 1)
    assert "\n" not in str(error.value)


OBSERVATIONS = {
    "nothing": (None, "float32, as in the observation space, got None"),
    "words": ("ab", "float32, as in the observation space, got the str 'ab'"),
    "ragged": ([[1.0], [1.0, 2.0]], "float32, as in the observation space, got a list of 2"),
    "complex": (np.zeros(2, complex), "float32, .* got an array of complex128 with the shape"),
    "longer": (np.zeros(3, np.float32), r"the shape \(2,\) of the observation space, got \(3,\)"),
    "one number": (np.float32(0), r"the shape \(2,\) of the observation space, got \(\)"),
    "a row": (
        np.zeros((1, 2), np.float32),
        r"the shape \(2,\) of the observation space, got \(1, 2\)",
    ),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_observations_that_do_not_fit_the_space_are_refused(kind, door):
    observation, message = OBSERVATIONS[kind]
    by_reset = partial(Altered, lambda _, info: (observation, info))
    by_step = partial(Altered, None, lambda _, *rest: (observation, *rest))
    refused(door, by_reset, f"reset must return observations of {message}")
    refused(door, by_step, f"step must return observations of {message}")


@pytest.mark.parametrize("door", DOORS)
def test_floats_never_become_integers_nor_numbers_other_numbers(door):
    def make(space: Any, observation: Any) -> Any:
        env = Altered(lambda _, info: (observation, info))
        env.observation_space = space
        return env

    pixels = Box(0, 255, (2,), np.uint8)
    for space, observation, message in (
        (pixels, np.array([0.25, 0.5]), "observations of uint8, .* got an array of float64"),
        (Discrete(3), 1.0, "observations of int64, .* got the float 1.0"),
        (pixels, np.array([7, 300]), "observations within uint8, .* got numbers from 7 to 300"),
        (pixels, np.array([-1, 3]), "observations within uint8, .* got numbers from -1 to 3"),
    ):
        refused(door, lambda s=space, o=observation: make(s, o), f"reset must return {message}")


def test_observations_of_another_dtype_with_the_same_numbers_are_converted():
    for space, given in (
        (Box(0, 255, (2,), np.uint8), [3, 255]),
        (Box(-1, 1, (2,), np.float32), np.array([0.5, -1.0])),
        (Box(-1, 1, (2,), np.float32), (True, False)),
        (Discrete(4), np.int16(3)),
    ):
        env = Altered(lambda _, info, given=given: (given, info))
        env.observation_space = space
        observation, _ = CheckedEnv(env).reset()
        assert observation.dtype == space.dtype
        np.testing.assert_array_equal(observation, given)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("of_reset", "got"),
    [
        (lambda observation, info: observation, "an array of float32 with the shape"),
        (lambda observation, info: tuple(observation), "a tuple of 2"),
        (lambda observation, info: None, "None"),
        (lambda observation, info: (observation, info, 0), "a tuple of 3"),
    ],
)
def test_a_reset_without_info_is_refused(of_reset, got, door):
    message = rf"reset must return \(observation, info\), got {got}.*: return observation, \{{\}}"
    refused(door, lambda: Altered(of_reset), message)


def four(observation: Any, reward: Any, terminated: Any, truncated: Any, info: Any) -> Any:
    return observation, reward, terminated or truncated, info


OLD_STEP = (
    r"step must return \(observation, reward, .*\), got a tuple of 4: that is the API of gym before"
)


@pytest.mark.parametrize("door", DOORS)
def test_the_old_step_of_four_values_is_refused_within_gymnasiums_wrappers_too(door):
    refused(door, lambda: Altered(None, four), OLD_STEP)
    refused(door, lambda: gymnasium.wrappers.TimeLimit(Altered(None, four), 9), OLD_STEP)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("answer", "got"),
    [(None, "None"), (3.5, "the float 3.5"), ((1, 2, 3), "a tuple of 3"), ([0] * 5, "a list of 5")],
)
def test_a_step_that_returns_something_else_is_refused(answer, got, door):
    message = rf"step must return \(observation, .*\), got {got}: return these five"
    refused(door, lambda: Altered(None, lambda *_: answer), message)


def numbers(value: float) -> list[Any]:
    return [
        value,
        int(value),
        bool(value),
        np.float64(value),
        np.float32(value),
        np.int64(value),
        np.bool_(value),
        np.array(value),
        np.array([value]),
        np.array([[value]], np.float32),
    ]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("form", range(len(numbers(1.0))))
def test_rewards_and_flags_may_come_in_any_form_of_one_number(form, door):
    def altered() -> Any:
        return Altered(
            None,
            lambda o, r, *flags, info=None: (o, *(numbers(x)[form] for x in (r, *flags[:2])), {}),
        )

    window = collect(door(altered), 1)[0]
    assert set(window.finished_returns.tolist()) == {5.0}
    assert not any(window.truncated)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("value", "got"),
    [
        (None, "None"),
        ("1.0", "the str '1.0'"),
        (np.ones(2), r"an array of float64 with the shape \(2,\)"),
        ([1.0, 2.0], "a list of 2"),
    ],
)
def test_rewards_and_flags_that_are_not_one_number_are_refused(value, got, door):
    reward = partial(Altered, None, lambda o, r, *rest: (o, value, *rest))
    terminated = partial(Altered, None, lambda o, r, t, *rest: (o, r, value, *rest))
    truncated = partial(Altered, None, lambda o, r, t, u, info: (o, r, t, value, info))
    refused(door, reward, f"step must return one number as reward, got {got}")
    refused(door, terminated, f"step must return terminated as a bool, got {got}")
    refused(door, truncated, f"step must return truncated as a bool, got {got}")


def test_a_reward_that_is_nan_is_a_number_and_other_numbers_are_no_flags():
    env = CheckedEnv(Altered(None, lambda o, r, *rest: (o, float("nan"), *rest)))
    env.reset()
    assert np.isnan(env.step(0)[1])
    for flag in (2, 0.5, float("nan")):
        env = CheckedEnv(Altered(None, lambda o, r, t, *rest, flag=flag: (o, r, flag, *rest)))
        env.reset()
        with pytest.raises(TypeError, match="terminated as a bool"):
            env.step(0)


def test_an_environment_in_a_process_of_its_own_is_named_too():
    pipeline = workers(lambda: Altered(None, four))
    with pytest.raises(TypeError, match=OLD_STEP):
        collect(pipeline, 1)
    pipeline.teardown()


class OddVector(gymnasium.vector.VectorEnv):
    """Three environments; `step` answers as it is told."""

    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}  # noqa: RUF012
    num_envs = 3
    single_observation_space = Box(-9, 9, (2,), np.float32)
    single_action_space = Discrete(2)

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        first = np.zeros((3, 2), np.float32), {}
        return self.answers.get("reset", first)

    def step(self, actions: Any) -> Any:
        observations = self.answers.get("observations", np.zeros((3, 2), np.float32))
        rewards = self.answers.get("rewards", np.ones(3))
        flags = self.answers.get("flags", np.zeros(3, bool))
        return self.answers.get("step", (observations, rewards, flags, flags, {}))


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"reset": np.zeros((3, 2))}, r"reset must return \(observation, info\), got an array"),
        ({"reset": (np.zeros((3, 4)), {})}, r"of the shape \(3, 2\) .* got \(3, 4\)"),
        ({"observations": np.zeros(2)}, r"of the shape \(3, 2\) .* got \(2,\)"),
        ({"observations": None}, "observations of float32, .* got None"),
        ({"rewards": 1.0}, r"rewards of the shape \(3,\), got the float 1.0"),
        ({"rewards": None}, r"rewards of the shape \(3,\), got None"),
        ({"flags": np.zeros(2, bool)}, r"flags of the shape \(3,\), got an array"),
        ({"step": (0, 0, 0, {})}, r"got a tuple of 4: that is the API of gym before"),
        ({"step": None}, r"step must return .* got None"),
    ],
)
def test_a_vector_environment_is_held_to_the_same(answers, message):
    pipeline = VectorBatchPipeline(env=OddVector(**answers), agent=CountingAgent(), window_size=4)
    with pytest.raises(
        (TypeError, ValueError), match=f"^vector environment OddVector: .*{message}"
    ):
        collect(pipeline, 1)


def test_a_vector_environment_may_give_rewards_and_flags_as_columns():
    env = OddVector(rewards=np.ones((3, 1)), flags=np.zeros((3, 1)))
    pipeline = VectorBatchPipeline(env=env, agent=CountingAgent(), window_size=4)
    assert np.asarray(collect(pipeline, 1)[0].rewards).tolist() == [1.0] * 12
