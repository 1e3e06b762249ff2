"""PPO on the probes: each part of it that may be broken has one that fails."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.core.types import HyperparamSet
from tests.probes.catalogue import ACTION_PROBES, VALUE_PROBES, Probe, make_probe
from tests.probes.checks import check_greedy, check_values, train

if TYPE_CHECKING:
    from tensor_optix.core.types import Array
    from tests.frameworks import Framework

STEPS = 640
"""20 windows of 32 rows. The errors are then below a tenth of what the probes tolerate."""


VALUES = [
    *(("torch", name, kind) for name in VALUE_PROBES for kind in ("vector", "image")),
    ("tensorflow", "value of the observation", "image"),
]
ACTIONS = [
    *(("torch", name, kind) for name in ACTION_PROBES for kind in ("vector", "image")),
    ("tensorflow", "action for the observation", "vector"),
]
"""The framework, the probe, and its observations: all with PyTorch, and the most telling with TensorFlow."""


def make_network(framework: Framework, probe: Probe, outputs: int, seed: int) -> Any:
    size = probe.observations[0].size
    if probe.observations.dtype == np.uint8:
        shape = probe.observations.shape[1:]
        return framework.perceptron((size, outputs), seed, shape, scale=1 / 255)
    return framework.perceptron((size, 32, outputs), seed)


def make_agent(framework: Framework, probe: Probe) -> tuple[Any, Any]:
    """Return an agent and its critic."""
    actor, critic = (make_network(framework, probe, 2 - seed, seed) for seed in range(2))
    hyperparams = HyperparamSet(
        {
            "gamma": probe.answer.gamma,
            "n_epochs": 8,
            "minibatch_size": 32,
            "max_grad_norm": 10.0,
            "entropy_coef": 0.0,
        }
    )
    agent = framework.PPO(
        actor, critic, framework.adam(0.02, actor, critic), hyperparams, device="cpu"
    )
    agent.seed(0)
    return agent, critic


def predict(framework: Framework, critic: Any, observations: Array) -> Array:
    return framework.call(critic, observations.astype(np.float32))


@pytest.mark.parametrize(("framework", "name", "observation"), VALUES, indirect=["framework"])
def test_the_critic_learns_the_value_of_every_observation(framework, name, observation):
    probe = make_probe(name, observation)
    agent, critic = make_agent(framework, probe)
    train(agent, probe, STEPS)
    check_values(functools.partial(predict, framework, critic), probe)


@pytest.mark.parametrize(("framework", "name", "observation"), ACTIONS, indirect=["framework"])
def test_the_actor_learns_the_best_action_for_every_observation(framework, name, observation):
    probe = make_probe(name, observation)
    agent, _ = make_agent(framework, probe)
    train(agent, probe, STEPS)
    check_greedy(agent.act_greedy, probe)
