"""A small TD3 agent and windows for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.types import HyperparamSet
from tests.algorithms.small_sac import ACTION_DIM, make_critic, make_episode
from tests.frameworks import load

if TYPE_CHECKING:
    from tests.frameworks import Framework

__all__ = ["ACTION_DIM", "make_agent", "make_critic", "make_episode"]


def make_agent(
    seed: int = 0,
    obs_shape: tuple[int, ...] = (4,),
    framework: Framework | None = None,
    obs_normalizer: Any = None,
    reward_normalizer: Any = None,
    compile: bool = False,
    **params: Any,
) -> Any:
    """Make one of `framework`, or of PyTorch."""
    framework = framework or load("torch")
    sizes = (int(np.prod(obs_shape)), 16, ACTION_DIM)
    actor = framework.perceptron(sizes, 3 * seed, obs_shape)
    critics = [make_critic(framework, obs_shape, 3 * seed + 1 + k) for k in range(2)]
    agent = framework.TD3(
        actor,
        *critics,
        ACTION_DIM,
        framework.adam(1e-3, actor),
        framework.adam(1e-3, *critics),
        HyperparamSet({"batch_size": 16, "replay_capacity": 1000} | params),
        device="cpu",
        obs_normalizer=obs_normalizer,
        reward_normalizer=reward_normalizer,
        compile=compile,
    )
    agent.seed(seed)
    return agent
