"""A small DQN agent, windows for it, and rows to show to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.types import EpisodeData, HyperparamSet, Transitions
from tests.frameworks import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.frameworks import Framework

NUM_ACTIONS = 2


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
    network = framework.perceptron((int(np.prod(obs_shape)), 16, NUM_ACTIONS), seed, obs_shape)
    agent = framework.DQN(
        network,
        NUM_ACTIONS,
        framework.adam(1e-3, network),
        HyperparamSet({"batch_size": 16, "replay_capacity": 1000} | params),
        device="cpu",
        obs_normalizer=obs_normalizer,
        reward_normalizer=reward_normalizer,
        compile=compile,
    )
    agent.seed(seed)
    return agent


def make_episode(
    rows: int = 64,
    obs_shape: tuple[int, ...] = (4,),
    dtype: Any = np.float32,
    num_envs: int = 1,
    seed: int = 5,
) -> EpisodeData:
    """Return a window in which some episodes end, by themselves or by a time limit."""
    rng = np.random.default_rng(seed)
    observations = rng.uniform(0, 200, (rows + num_envs, *obs_shape)).astype(dtype)
    if np.dtype(dtype).kind == "f":
        observations = (observations / 100 - 1).astype(dtype)
    terminated = rng.random(rows) < 0.08
    truncated = ~terminated & (rng.random(rows) < 0.08)
    end_rows = np.flatnonzero(terminated | truncated)
    ends = rng.uniform(0, 1, (len(end_rows), *obs_shape)).astype(dtype)
    final = observations[rows:]
    return EpisodeData(
        observations=observations[:rows],
        actions=rng.integers(0, NUM_ACTIONS, rows),
        rewards=rng.standard_normal(rows).astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        infos=[],
        episode_id=0,
        num_envs=num_envs,
        final_obs=final if num_envs > 1 else final[0],
        end_rows=end_rows,
        end_observations=ends,
    )


def vector_steps(
    count: int,
    num_envs: int = 8,
    obs_shape: tuple[int, ...] = (4,),
    action_dim: int | None = None,
    seed: int = 0,
) -> Iterator[Transitions]:
    """Yield steps of environments whose episodes never end."""
    rng = np.random.default_rng(seed)
    observations = rng.standard_normal((num_envs, *obs_shape)).astype(np.float32)
    for _ in range(count):
        following = rng.standard_normal((num_envs, *obs_shape)).astype(np.float32)
        actions = (
            rng.integers(0, NUM_ACTIONS, num_envs)
            if action_dim is None
            else rng.uniform(-1, 1, (num_envs, action_dim)).astype(np.float32)
        )
        rewards = rng.standard_normal(num_envs).astype(np.float32)
        never = np.zeros(num_envs, bool)
        ids = np.arange(num_envs)
        yield Transitions(observations, actions, rewards, following, never, never, ids, num_envs)
        observations = following


def empty_window(num_envs: int = 8) -> EpisodeData:
    """Return a window of no rows: what learning from it returns is about what was observed before."""
    nothing = np.zeros(0, np.float32)
    return EpisodeData(
        observations=np.zeros((0, 4), np.float32),
        actions=nothing,
        rewards=nothing,
        terminated=nothing.astype(bool),
        truncated=nothing.astype(bool),
        infos=[],
        episode_id=0,
        num_envs=num_envs,
    )
