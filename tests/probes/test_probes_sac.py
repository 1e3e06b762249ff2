"""SAC on the probes: each part of it that may be broken has one that fails."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from tensor_optix.adapters.pytorch.networks import adam
from tensor_optix.algorithms.torch_sac import TorchSACAgent
from tensor_optix.core.types import HyperparamSet
from tests.probes.catalogue import ACTION_PROBES, VALUE_PROBES, Probe, make_probe
from tests.probes.checks import check_greedy, check_values, train

if TYPE_CHECKING:
    from tensor_optix.core.types import Array

STEPS = 512
"""16 windows of 32 rows, or of 4 times 8. The errors are then a fifth of what the probes tolerate."""
CASES = [
    *((name, "vector") for name in VALUE_PROBES),
    *((name, "image") for name in ("value of the observation", "ends within a window")),
]
"""Pictures differ from vectors in how they reach the networks, and in nothing else."""


class ImageCritic(nn.Module):
    """Q of a picture and an action, which come as two arguments."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.value = nn.Sequential(nn.Linear(size + 1, 32), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        pixels = observations.flatten(1) / 255.0
        values: torch.Tensor = self.value(torch.cat([pixels, actions], dim=-1))
        return values


class Scaled(nn.Module):
    """Bytes to [0, 1]."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return observations / 255.0


def make_actor(probe: Probe) -> nn.Module:
    size = probe.observations[0].size
    layers = [nn.Linear(size, 32), nn.Tanh(), nn.Linear(32, 2)]
    if probe.observations.dtype == np.uint8:
        layers = [nn.Flatten(), Scaled(), *layers]
    return nn.Sequential(*layers)


def make_critic(probe: Probe) -> nn.Module:
    size = probe.observations[0].size
    if probe.observations.dtype == np.uint8:
        return ImageCritic(size)
    return nn.Sequential(nn.Linear(size + 1, 32), nn.Tanh(), nn.Linear(32, 1))


def make_agent(probe: Probe, **params: Any) -> tuple[TorchSACAgent, list[nn.Module]]:
    """Return an agent without any entropy in its values, and its two critics."""
    torch.manual_seed(0)
    actor, critics = make_actor(probe), [make_critic(probe), make_critic(probe)]
    settings = {
        "gamma": probe.answer.gamma,
        "batch_size": 32,
        "replay_capacity": 1024,
        "tau": 0.2,
        "updates_per_step": 0.5,
        "log_alpha_init": -10.0,
    }
    agent = TorchSACAgent(
        actor,
        *critics,
        1,
        adam([actor], 0.005),
        adam(critics, 0.02),
        torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=0.0),
        HyperparamSet(settings | params),
        device="cpu",
    )
    agent.seed(0)
    return agent, critics


def predict(critic: nn.Module, agent: TorchSACAgent, observations: Array) -> Array:
    """The values of the actions that the agent prefers."""
    inputs = torch.as_tensor(observations, dtype=torch.float32)
    actions = torch.as_tensor(agent.act_greedy(observations))
    with torch.no_grad():
        if inputs.dim() != 2:
            return np.asarray(critic(inputs, actions))
        return np.asarray(critic(torch.cat([inputs, actions], dim=-1)))


@pytest.mark.parametrize(("name", "observation"), CASES)
def test_both_critics_learn_the_value_of_every_observation(name, observation):
    probe = make_probe(name, observation, "box")
    agent, critics = make_agent(probe)
    train(agent, probe, STEPS)
    for critic in critics:
        check_values(functools.partial(predict, critic, agent), probe)


@pytest.mark.parametrize(("n_step", "per_alpha"), [(3, 0.0), (3, 0.6)])
@pytest.mark.parametrize("name", ["final observation", "ends within a window"])
def test_so_they_do_with_priorities_and_returns_of_several_steps(name, n_step, per_alpha):
    probe = make_probe(name, action="box")
    agent, critics = make_agent(probe, n_step=n_step, per_alpha=per_alpha)
    train(agent, probe, STEPS)
    for critic in critics:
        check_values(functools.partial(predict, critic, agent), probe)


@pytest.mark.parametrize("observation", ["vector", "image"])
@pytest.mark.parametrize("name", ACTION_PROBES)
def test_the_actor_learns_the_best_action_for_every_observation(name, observation):
    """With some entropy, so that the actor does not run to a bound before the critics know better."""
    probe = make_probe(name, observation, "box")
    agent, _ = make_agent(probe, log_alpha_init=-1.0, updates_per_step=1.0)
    train(agent, probe, STEPS)
    check_greedy(agent.act_greedy, probe, agent.has_unit_actions)
