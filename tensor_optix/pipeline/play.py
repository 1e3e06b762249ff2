"""Playing whole episodes with a policy's best actions: an agent and environments in, returns out.

Nothing is learned or recorded. The `tensor-optix evaluate` command is built on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tensor_optix.core.episode_returns import EpisodeCounter, FirstEpisodes
from tensor_optix.pipeline.action_scaling import environment_actions

if TYPE_CHECKING:
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.types import Array
    from tensor_optix.pipeline.vector_contract import VectorEnv


def play_episodes(
    agent: BaseAgent,
    env: VectorEnv,
    episodes: int,
    seed: int | None = None,
    rescale_actions: bool = True,
) -> tuple[Array, Array]:
    """Play `episodes` episodes greedily, from their beginnings to their ends.

    Every environment plays a number of episodes that is fixed beforehand: taking the first that
    finish instead would favour the short ones. A reward that is NaN makes its own episode's return
    NaN, and no other.

    Args:
        agent: Acts by `act_greedy`.
        env: Is reset first, and stays open.
        episodes: E, how many to play in all; the environments differ by at most one.
        seed: Of the reset. None: the seed that the environments were made with.
        rescale_actions: Whether an agent's actions in [-1, 1] are stretched to the action space, as a
            pipeline does.

    Returns:
        The undiscounted returns `[E]` float64 and the lengths `[E]` int64 in steps, the episodes of
        one environment together.

    Raises:
        ValueError: If `episodes` is below 1, or actions cannot be stretched to the action space.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    counter, played = EpisodeCounter(env.num_envs), FirstEpisodes(episodes, env.num_envs)
    to_env = environment_actions(agent, env.action_space, rescale_actions)
    env.reset(seed)
    while True:
        step = env.recv()
        valid, dones = step.valid, step.terminated | step.truncated
        finished = counter.add_step(step.env_ids[valid], step.rewards[valid], dones[valid])
        for env_id, total, length in zip(*finished, strict=True):
            played.add(env_id, total, length)
        if played.is_complete:
            return played.returns, played.lengths
        # A copy, as the environment may write over its own: an agent may keep what it acts on.
        actions = np.asarray(agent.act_greedy(np.array(step.observations)))
        env.send(to_env(actions), step.env_ids)
