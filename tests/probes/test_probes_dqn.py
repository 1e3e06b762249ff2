"""DQN on the probes: each part of it that may be broken has one that fails."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from tensor_optix.adapters.pytorch.networks import adam
from tensor_optix.algorithms.torch_dqn import TorchDQNAgent
from tensor_optix.core.types import HyperparamSet
from tests.probes.catalogue import ACTION_PROBES, VALUE_PROBES, Probe, make_probe
from tests.probes.checks import check_action_values, check_greedy, train

if TYPE_CHECKING:
    from tensor_optix.core.types import Array

STEPS = 640
"""20 windows of 32 rows, or of 4 times 8. The errors are then below a tenth of what the probes tolerate."""


CASES = [
    *((name, "vector") for name in VALUE_PROBES),
    *((name, "image") for name in ("value of the observation", "ends within a window")),
]
"""Pictures differ from vectors in how they are stored and fed, and in nothing else."""


class Scaled(nn.Module):
    """Bytes to [0, 1]."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return observations / 255.0


def make_network(probe: Probe) -> nn.Module:
    """Return a linear network: every value of every probe is within its reach, and soon found."""
    size = probe.observations[0].size
    if probe.observations.dtype == np.uint8:
        return nn.Sequential(nn.Flatten(), Scaled(), nn.Linear(size, 2))
    return nn.Linear(size, 2)


def make_agent(probe: Probe, **params: Any) -> tuple[TorchDQNAgent, nn.Module]:
    """Return an agent and its network."""
    torch.manual_seed(0)
    network = make_network(probe)
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
    agent = TorchDQNAgent(network, 2, adam([network], rate), hyperparams, device="cpu")
    agent.seed(0)
    return agent, network


def predict(network: nn.Module, observations: Array) -> Array:
    with torch.no_grad():
        values: Array = network(torch.as_tensor(observations, dtype=torch.float32)).numpy()
    return values


@pytest.mark.parametrize(("name", "observation"), CASES)
def test_the_network_learns_the_value_of_every_observation_and_action(name, observation):
    probe = make_probe(name, observation)
    agent, network = make_agent(probe)
    train(agent, probe, STEPS)
    check_action_values(functools.partial(predict, network), probe)


@pytest.mark.parametrize(("n_step", "per_alpha"), [(3, 0.0), (3, 0.6)])
@pytest.mark.parametrize("name", ["time limit", "final observation", "ends within a window"])
def test_so_it_does_with_priorities_and_returns_of_several_steps(name, n_step, per_alpha):
    probe = make_probe(name)
    agent, network = make_agent(probe, n_step=n_step, per_alpha=per_alpha)
    train(agent, probe, STEPS)
    check_action_values(functools.partial(predict, network), probe)


@pytest.mark.parametrize("observation", ["vector", "image"])
@pytest.mark.parametrize("name", ACTION_PROBES)
def test_the_best_action_for_every_observation_is_found(name, observation):
    probe = make_probe(name, observation)
    agent, network = make_agent(probe)
    train(agent, probe, STEPS)
    check_action_values(functools.partial(predict, network), probe)
    check_greedy(agent.act_greedy, probe)
