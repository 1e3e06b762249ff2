"""A small SAC agent and windows for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from tensor_optix.algorithms.torch_sac import TorchSACAgent
from tensor_optix.core.types import EpisodeData, HyperparamSet
from tests.algorithms import small_dqn
from tests.algorithms.small_dqn import make_network

ACTION_DIM = 2


class ImageCritic(nn.Module):
    """A critic of observations that are no vectors: they and the actions come as two arguments."""

    def __init__(self, obs_shape: tuple[int, ...], action_dim: int = ACTION_DIM) -> None:
        super().__init__()
        self.value = make_network(1, (int(np.prod(obs_shape)) + action_dim,))

    def forward(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = self.value(torch.cat([observations.flatten(1), actions], dim=-1))
        return values


def make_critic(obs_shape: tuple[int, ...]) -> nn.Module:
    if len(obs_shape) != 1:
        return ImageCritic(obs_shape)
    # Without a Flatten in front, so that the two run as one batched pass.
    size = obs_shape[0] + ACTION_DIM
    return nn.Sequential(nn.Linear(size, 16), nn.Tanh(), nn.Linear(16, 1))


def make_agent(
    seed: int = 0,
    obs_shape: tuple[int, ...] = (4,),
    obs_normalizer: Any = None,
    reward_normalizer: Any = None,
    alpha_lr: float = 1e-3,
    **params: Any,
) -> TorchSACAgent:
    torch.manual_seed(seed)
    actor = make_network(2 * ACTION_DIM, obs_shape)
    critics = make_critic(obs_shape), make_critic(obs_shape)
    agent = TorchSACAgent(
        actor,
        *critics,
        ACTION_DIM,
        torch.optim.Adam(actor.parameters(), lr=1e-3),
        torch.optim.Adam([p for critic in critics for p in critic.parameters()], lr=1e-3),
        torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=alpha_lr),
        HyperparamSet({"batch_size": 16, "replay_capacity": 1000} | params),
        device="cpu",
        obs_normalizer=obs_normalizer,
        reward_normalizer=reward_normalizer,
    )
    agent.seed(seed)
    return agent


def make_episode(rows: int = 64, *arguments: Any, **options: Any) -> EpisodeData:
    """Return the window of `small_dqn`, with continuous actions."""
    episode = small_dqn.make_episode(rows, *arguments, **options)
    rng = np.random.default_rng(8)
    episode.actions = rng.uniform(-1, 1, (rows, ACTION_DIM)).astype(np.float32)
    return episode
