"""What the agents of both frameworks do and are before they learn: actions, defaults, arguments."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("torch")

from tests.parity.agents import (
    make_dqn,
    make_gaussian_ppo,
    make_generic,
    make_ppo,
    make_ppo_of_choices,
    make_sac,
    make_td3,
)
from tests.parity.windows import IMAGE, VECTOR, draw_observations

MAKERS = pytest.mark.parametrize(
    "make",
    [make_ppo, make_ppo_of_choices, make_gaussian_ppo, make_generic, make_dqn, make_sac, make_td3],
)


def assert_same_actions(ours, theirs):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert theirs.dtype == ours.dtype
    if ours.dtype.kind == "i":
        np.testing.assert_array_equal(theirs, ours)
    else:
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-6)


@MAKERS
def test_one_seed_gives_the_same_actions(make):
    assert_both_act_alike(make, VECTOR)


@pytest.mark.parametrize("make", [make_ppo, make_dqn])
def test_one_seed_gives_the_same_actions_for_byte_images(make):
    assert_both_act_alike(make, IMAGE)


def assert_both_act_alike(make, obs_shape):
    """For one, some, and more observations than one forward pass takes."""
    twins = make(obs_shape=obs_shape)
    if make is make_dqn:
        twins.set_hyperparams(epsilon=0.5)
    rng = np.random.default_rng(7)
    for count in (5, 1, 5000):
        observations = draw_observations(rng, count, obs_shape)
        assert_same_actions(*(agent.act_batch(observations) for agent in twins))
        assert_same_actions(*(agent.act_greedy(observations) for agent in twins))
    one = draw_observations(rng, 1, obs_shape)[0]
    ours, theirs = (agent.act(one) for agent in twins)
    assert type(ours) is type(theirs)
    assert_same_actions(ours, theirs)


@MAKERS
def test_hyperparameters_and_what_a_tuner_is_told_are_equal(make):
    ours, theirs = make(rate=3e-4)
    assert theirs.get_hyperparams().params == ours.get_hyperparams().params
    for name in (
        "default_param_bounds",
        "default_log_params",
        "default_min_episodes_before_dormant",
        "has_unit_actions",
        "is_on_policy",
        "is_exploring",
        "hyperparams_type",
    ):
        assert getattr(theirs, name) == getattr(ours, name), name


OF_ONE_FRAMEWORK = ("device", "compile")
"""The device stands elsewhere, as the released interface has it; TensorFlow compiles always."""


@MAKERS
def test_other_arguments_have_the_same_names_and_defaults_in_the_same_order(make):
    ours, theirs = (
        {
            name: parameter.default
            for name, parameter in inspect.signature(type(agent)).parameters.items()
            if name not in OF_ONE_FRAMEWORK
        }
        for agent in make()
    )
    assert list(theirs.items()) == list(ours.items())


@MAKERS
def test_both_have_the_same_public_methods(make):
    ours, theirs = ({name for name in dir(agent) if not name.startswith("_")} for agent in make())
    assert theirs == ours


@MAKERS
def test_a_learning_rate_is_read_back_as_the_same_number(make):
    twins = make()
    for rate in (1e-4, 3e-4, 0.00123456, 7e-3):
        twins.set_hyperparams(learning_rate=rate)
        ours, theirs = (agent.get_hyperparams().params["learning_rate"] for agent in twins)
        # A variable of Keras is float32.
        assert theirs == pytest.approx(ours, rel=1e-6)
