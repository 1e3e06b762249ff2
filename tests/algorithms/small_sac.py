"""A small SAC agent and windows for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.types import EpisodeData, HyperparamSet
from tests.algorithms import small_dqn
from tests.frameworks import load

if TYPE_CHECKING:
    from tests.frameworks import Framework

ACTION_DIM = 2


def make_critic(framework: Framework, obs_shape: tuple[int, ...], seed: int = 0) -> Any:
    if len(obs_shape) != 1:
        return framework.image_critic(obs_shape, ACTION_DIM, seed=seed)
    # Without a Flatten in front, so that two of PyTorch run as one batched pass.
    return framework.perceptron((obs_shape[0] + ACTION_DIM, 16, 1), seed)


def make_agent(
    seed: int = 0,
    obs_shape: tuple[int, ...] = (4,),
    framework: Framework | None = None,
    obs_normalizer: Any = None,
    reward_normalizer: Any = None,
    compile: bool = False,
    alpha_lr: float = 1e-3,
    **params: Any,
) -> Any:
    """Make one of `framework`, or of PyTorch."""
    framework = framework or load("torch")
    sizes = (int(np.prod(obs_shape)), 16, 2 * ACTION_DIM)
    actor = framework.perceptron(sizes, 3 * seed, obs_shape)
    critics = [make_critic(framework, obs_shape, 3 * seed + 1 + k) for k in range(2)]
    agent = framework.SAC(
        actor,
        *critics,
        ACTION_DIM,
        framework.adam(1e-3, actor),
        framework.adam(1e-3, *critics),
        framework.number_adam(alpha_lr),
        HyperparamSet({"batch_size": 16, "replay_capacity": 1000} | params),
        device="cpu",
        obs_normalizer=obs_normalizer,
        reward_normalizer=reward_normalizer,
        compile=compile,
    )
    agent.seed(seed)
    return agent


def make_episode(rows: int = 64, *arguments: Any, **options: Any) -> EpisodeData:
    """Return the window of `small_dqn`, with continuous actions."""
    episode = small_dqn.make_episode(rows, *arguments, **options)
    rng = np.random.default_rng(8)
    episode.actions = rng.uniform(-1, 1, (rows, ACTION_DIM)).astype(np.float32)
    return episode
