"""A small PPO agent and a window for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from tensor_optix.algorithms.torch_ppo import TorchPPOAgent
from tensor_optix.core.types import EpisodeData, HyperparamSet


def make_agent(
    seed: int = 0, obs_shape: tuple[int, ...] = (4,), num_actions: int = 3, **params: Any
) -> TorchPPOAgent:
    torch.manual_seed(seed)
    size = int(np.prod(obs_shape))

    def network(outputs: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.Tanh(), nn.Linear(16, outputs))

    actor, critic = network(num_actions), network(1)
    optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=1e-3)
    agent = TorchPPOAgent(actor, critic, optimizer, HyperparamSet(params), device="cpu")
    agent.seed(seed)
    return agent


def make_episode(
    rows: int = 128, obs_shape: tuple[int, ...] = (4,), dtype: Any = np.float32, num_envs: int = 1
) -> EpisodeData:
    rng = np.random.default_rng(5)
    if dtype == np.uint8:
        observations = rng.integers(0, 256, (rows, *obs_shape), dtype)
    else:
        observations = rng.standard_normal((rows, *obs_shape)).astype(dtype)
    terminated = rng.random(rows) < 0.05
    final = rng.standard_normal((num_envs, *obs_shape)).astype(np.float32)
    return EpisodeData(
        observations=observations,
        actions=rng.integers(0, 3, rows),
        rewards=rng.standard_normal(rows).astype(np.float32),
        terminated=terminated,
        truncated=np.zeros(rows, bool),
        infos=[],
        episode_id=0,
        num_envs=num_envs,
        final_obs=final if num_envs > 1 else final[0],
    )


def weights(agent: TorchPPOAgent) -> list[np.ndarray]:
    networks = (agent._actor, agent._critic)
    return [p.detach().numpy().copy() for net in networks for p in net.parameters()]
