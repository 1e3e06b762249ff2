"""A small generic agent, a window for it, and one that keeps what its loss is called with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from tensor_optix.algorithms.torch_agent import TorchAgent
from tensor_optix.core.types import EpisodeData, HyperparamSet

Recorded = list[tuple[Any, EpisodeData, Any]]


def make_agent(seed: int = 0, obs_shape: tuple[int, ...] = (4,), **options: Any) -> TorchAgent:
    params = options.pop("params", {})
    torch.manual_seed(seed)
    size = int(np.prod(obs_shape))
    model = nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.Tanh(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    agent = TorchAgent(model, optimizer, HyperparamSet(params), device="cpu", **options)
    agent.seed(seed)
    return agent


def make_episode(rows: int = 40, **changes: Any) -> EpisodeData:
    rng = np.random.default_rng(5)
    fields: dict[str, Any] = {
        "observations": rng.standard_normal((rows, 4)).astype(np.float32),
        "actions": rng.integers(0, 2, rows),
        "rewards": rng.standard_normal(rows).astype(np.float32),
        "terminated": rng.random(rows) < 0.1,
        "truncated": np.zeros(rows, bool),
        "infos": [],
        "episode_id": 0,
    }
    return EpisodeData(**(fields | changes))


def make_recording_agent(**options: Any) -> tuple[TorchAgent, Recorded]:
    """An agent that keeps what its loss was called with."""
    calls: Recorded = []

    def loss_fn(model: Any, episode: EpisodeData, targets: Any) -> Any:
        calls.append((model, episode, targets.clone()))
        return model(torch.as_tensor(episode.observations, dtype=torch.float32)).square().mean()

    return make_agent(compute_loss_fn=loss_fn, **options), calls
