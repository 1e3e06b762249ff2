"""A small generic agent, a window for it, and one that keeps what its loss is called with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.types import EpisodeData, HyperparamSet
from tests.frameworks import load

if TYPE_CHECKING:
    from tests.frameworks import Framework

Recorded = list[tuple[Any, EpisodeData, Any]]


def make_agent(
    seed: int = 0,
    obs_shape: tuple[int, ...] = (4,),
    framework: Framework | None = None,
    **options: Any,
) -> Any:
    """Make one of `framework`, or of PyTorch."""
    framework = framework or load("torch")
    params = options.pop("params", {})
    model = framework.perceptron((int(np.prod(obs_shape)), 16, 2), seed, obs_shape)
    agent = framework.Generic(
        model, framework.adam(1e-2, model), HyperparamSet(params), device="cpu", **options
    )
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


def make_recording_agent(
    framework: Framework | None = None, **options: Any
) -> tuple[Any, Recorded]:
    """An agent that keeps what its loss was called with, the targets as arrays."""
    framework = framework or load("torch")
    calls: Recorded = []

    def loss_fn(model: Any, episode: EpisodeData, targets: Any) -> Any:
        calls.append((model, episode, framework.array(targets)))
        ops = framework.backend
        return ops.mean(ops.square(model(framework.tensor(episode.observations))))

    return make_agent(framework=framework, compute_loss_fn=loss_fn, **options), calls
