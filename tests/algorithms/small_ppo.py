"""A small PPO agent and a window for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.types import EpisodeData, HyperparamSet
from tests import frameworks
from tests.frameworks import load

if TYPE_CHECKING:
    from tests.frameworks import Framework


def make_agent(
    seed: int = 0,
    obs_shape: tuple[int, ...] = (4,),
    num_actions: int = 3,
    framework: Framework | None = None,
    reward_normalizer: Any = None,
    compile: bool = False,
    **params: Any,
) -> Any:
    """Make one of `framework`, or of PyTorch."""
    framework = framework or load("torch")
    size = int(np.prod(obs_shape))
    actor = framework.perceptron((size, 16, num_actions), 2 * seed, obs_shape)
    critic = framework.perceptron((size, 16, 1), 2 * seed + 1, obs_shape)
    optimizer = framework.adam(1e-3, actor, critic)
    agent = framework.PPO(
        actor,
        critic,
        optimizer,
        HyperparamSet(params),
        device="cpu",
        reward_normalizer=reward_normalizer,
        compile=compile,
    )
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


def weights(agent: Any) -> list[np.ndarray]:
    return [*frameworks.weights(agent._actor), *frameworks.weights(agent._critic)]
