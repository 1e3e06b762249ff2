"""Which spaces are taken, and in which form observations and actions travel."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple
from gymnasium.vector import SyncVectorEnv

from tensor_optix.core.observation_layout import seen_space
from tensor_optix.pipeline.vector_env import from_env_fns, wrap_env
from tests.pipeline.row_envs import ShapedEnv, record


@pytest.mark.parametrize(
    "space",
    [
        Box(0, 1, (1,), np.float64),
        Box(0, 255, (4, 84, 84), np.uint8),
        Box(0, 1, (), np.float32),
        Discrete(5),
        MultiBinary(3),
    ],
    ids=str,
)
@pytest.mark.parametrize("vector", [False, True])
def test_observations_keep_their_shape_and_dtype(space, vector):
    envs = [ShapedEnv(space) for _ in range(2)]
    env = from_env_fns([lambda env=env: env for env in (envs if vector else envs[:1])])
    step = record(env, steps=1).steps[-1]
    assert step.observations.shape == (env.num_envs, *space.shape)
    assert step.observations.dtype == space.dtype
    np.testing.assert_array_equal(step.observations[0], envs[0].obs)


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (Discrete(3), np.array([2])),
        (Box(-1, 1, (2,), np.float32), np.array([[0.5, -0.25]])),
        (MultiDiscrete([3, 4]), np.array([[2, 3]])),
    ],
    ids=["discrete", "box", "multidiscrete"],
)
def test_a_plain_environment_gets_actions_of_the_documented_type(space, action):
    plain = ShapedEnv(Box(0, 1, (1,)), space)
    env = wrap_env(plain)
    env.reset(0)
    env.send(action, env.recv().env_ids)
    (got,) = plain.actions
    expected = action[0].astype(space.dtype)
    assert type(got) is (int if isinstance(space, Discrete) else np.ndarray)
    assert np.asarray(got).dtype == space.dtype
    np.testing.assert_array_equal(got, expected)


def test_nan_rewards_pass_untouched():
    env = wrap_env(ShapedEnv(Box(0, 1, (1,)), reward=float("nan")))
    env.reset(0)
    env.send(np.array([0]), env.recv().env_ids)
    assert np.isnan(env.recv().rewards).all()


@pytest.mark.parametrize(
    "space", [Dict(a=Box(0, 1, (2,))), Tuple((Discrete(2), Discrete(3))), Text(4)], ids=str
)
def test_unsupported_spaces_are_named_before_any_step(space):
    def made(*spaces):
        return from_env_fns([lambda: ShapedEnv(*spaces)] * 2)

    with pytest.raises(ValueError, match="unsupported action space"):
        made(Box(0, 1, (2,)), space)
    if isinstance(space, Text):
        with pytest.raises(ValueError, match=r"unsupported observation space .*expected") as error:
            made(space)
        assert str(space) in str(error.value)
    else:
        assert made(space).observation_space == seen_space(space)


def test_a_dict_or_a_tuple_without_numbers_is_refused_before_any_step():
    for space in (Dict(a=Text(4)), Tuple((Text(4), Dict(b=Text(3))))):
        for vector in (
            lambda space=space: from_env_fns([lambda: ShapedEnv(space)] * 2),
            lambda space=space: wrap_env(SyncVectorEnv([lambda: ShapedEnv(space)] * 2)),
        ):
            with pytest.raises(ValueError, match=r"no part of the observation space .*of numbers"):
                vector()


def test_an_observation_of_another_shape_than_declared_is_refused():
    plain = ShapedEnv(Box(0, 1, (2,)))
    env = wrap_env(plain)
    plain.observation_space = Box(0, 1, (3,))
    with pytest.raises(ValueError, match=r"ShapedEnv.*of the shape \(2,\).*got \(3,\)"):
        env.reset(0)
