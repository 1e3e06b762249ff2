"""DQN on the probes: each part of it that may be broken has one that fails."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.core.types import HyperparamSet
from tests.probes.catalogue import ACTION_PROBES, VALUE_PROBES, Probe, make_probe
from tests.probes.checks import check_action_values, check_greedy, train

if TYPE_CHECKING:
    from tensor_optix.core.types import Array
    from tests.frameworks import Framework

STEPS = 640
"""20 windows of 32 rows, or of 4 times 8. The errors are then below a tenth of what the probes tolerate."""


CASES = [
    *(("torch", name, "vector") for name in VALUE_PROBES),
    *(("torch", name, "image") for name in ("value of the observation", "ends within a window")),
    ("tensorflow", "value of the observation", "image"),
    ("tensorflow", "final observation", "vector"),
]
"""Pictures differ from vectors in how they are stored and fed, and in nothing else."""
ACTIONS = [
    *(("torch", name, kind) for name in ACTION_PROBES for kind in ("vector", "image")),
    ("tensorflow", "action for the observation", "vector"),
]
"""The framework, the probe, and its observations: all with PyTorch, and the most telling with TensorFlow."""


def make_network(framework: Framework, probe: Probe) -> Any:
    """Return a linear network: every value of every probe is within its reach, and soon found."""
    size = probe.observations[0].size
    if probe.observations.dtype == np.uint8:
        return framework.perceptron((size, 2), 0, probe.observations.shape[1:], scale=1 / 255)
    return framework.perceptron((size, 2))


def make_agent(framework: Framework, probe: Probe, **params: Any) -> tuple[Any, Any]:
    """Return an agent and its network."""
    network = make_network(framework, probe)
    # The lit line of a picture is eight inputs, of which each has a weight that moves.
    rate = 0.01 if probe.observations.dtype == np.uint8 else 0.05
    settings = {
        "gamma": probe.answer.gamma,
        "batch_size": 32,
        "replay_capacity": 1024,
        "updates_per_step": 1.0,
        "target_update_freq": 10,
        # Values of all actions are asked for, so all of them must be tried.
        "epsilon_decay": 1.0,
    }
    hyperparams = HyperparamSet(settings | params)
    agent = framework.DQN(network, 2, framework.adam(rate, network), hyperparams, device="cpu")
    agent.seed(0)
    return agent, network


def predict(framework: Framework, network: Any, observations: Array) -> Array:
    return framework.call(network, observations.astype(np.float32))


@pytest.mark.parametrize(("framework", "name", "observation"), CASES, indirect=["framework"])
def test_the_network_learns_the_value_of_every_observation_and_action(framework, name, observation):
    probe = make_probe(name, observation)
    agent, network = make_agent(framework, probe)
    train(agent, probe, STEPS)
    check_action_values(functools.partial(predict, framework, network), probe)


@pytest.mark.parametrize("per_alpha", [0.0, 0.6])
@pytest.mark.parametrize("name", ["time limit", "final observation", "ends within a window"])
def test_so_it_does_with_priorities_and_returns_of_several_steps(torch_framework, name, per_alpha):
    framework = torch_framework
    probe = make_probe(name)
    agent, network = make_agent(framework, probe, n_step=3, per_alpha=per_alpha)
    train(agent, probe, STEPS)
    check_action_values(functools.partial(predict, framework, network), probe)


@pytest.mark.parametrize(("framework", "name", "observation"), ACTIONS, indirect=["framework"])
def test_the_best_action_for_every_observation_is_found(framework, name, observation):
    probe = make_probe(name, observation)
    agent, network = make_agent(framework, probe)
    train(agent, probe, STEPS)
    check_action_values(functools.partial(predict, framework, network), probe)
    check_greedy(agent.act_greedy, probe)
