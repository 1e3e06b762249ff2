"""PPO for continuous actions on the probes: each part of it that may be broken has one that fails."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from tensor_optix.adapters.pytorch.networks import adam
from tensor_optix.algorithms.torch_ppo_continuous import TorchGaussianPPOAgent
from tensor_optix.core.types import HyperparamSet
from tests.probes.catalogue import ACTION_PROBES, VALUE_PROBES, Probe, make_probe
from tests.probes.checks import check_greedy, check_values, train

if TYPE_CHECKING:
    from tensor_optix.core.types import Array

STEPS = 640
"""20 windows of 32 rows. The errors of values are then below a tenth of what the probes tolerate."""


class Scaled(nn.Module):
    """Bytes to [0, 1]."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return observations / 255.0


def make_network(probe: Probe, outputs: int) -> nn.Module:
    size = probe.observations[0].size
    if probe.observations.dtype == np.uint8:
        return nn.Sequential(nn.Flatten(), Scaled(), nn.Linear(size, outputs))
    return nn.Sequential(nn.Linear(size, 32), nn.Tanh(), nn.Linear(32, outputs))


def make_agent(probe: Probe, rate: float = 0.02) -> tuple[TorchGaussianPPOAgent, nn.Module]:
    """Return an agent and its critic."""
    torch.manual_seed(0)
    # Mean and log_std of one action component.
    actor, critic = make_network(probe, 2), make_network(probe, 1)
    hyperparams = HyperparamSet(
        {
            "gamma": probe.answer.gamma,
            "n_epochs": 8,
            "minibatch_size": 32,
            "max_grad_norm": 10.0,
            "entropy_coef": 0.0,
        }
    )
    agent = TorchGaussianPPOAgent(
        actor, critic, adam([actor, critic], rate), 1, hyperparams, device="cpu"
    )
    agent.seed(0)
    return agent, critic


def predict(critic: nn.Module, observations: Array) -> Array:
    with torch.no_grad():
        values: Array = critic(torch.as_tensor(observations, dtype=torch.float32)).numpy()
    return values


@pytest.mark.parametrize("observation", ["vector", "image"])
@pytest.mark.parametrize("name", VALUE_PROBES)
def test_the_critic_learns_the_value_of_every_observation(name, observation):
    probe = make_probe(name, observation, "box")
    agent, critic = make_agent(probe)
    train(agent, probe, STEPS)
    check_values(functools.partial(predict, critic), probe)


@pytest.mark.parametrize("observation", ["vector", "image"])
@pytest.mark.parametrize("name", ACTION_PROBES)
def test_the_actor_learns_the_best_action_for_every_observation(name, observation):
    probe = make_probe(name, observation, "box")
    agent, _ = make_agent(probe, rate=0.005)
    train(agent, probe, STEPS)
    check_greedy(agent.act_greedy, probe, agent.has_unit_actions)
