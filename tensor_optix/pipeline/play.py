"""Playing whole episodes with a policy's best actions: an agent and environments in, returns out.

Nothing is learned or recorded. The `tensor-optix evaluate` command is built on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tensor_optix.pipeline.action_scaling import environment_actions

if TYPE_CHECKING:
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.types import Array
    from tensor_optix.pipeline.vector_env import VectorEnv


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
    tally = _Tally(episodes, env.num_envs)
    to_env = environment_actions(agent, env.action_space, rescale_actions)
    env.reset(seed)
    while True:
        step = env.recv()
        ended = (step.terminated | step.truncated) & step.valid
        tally.add(step.env_ids, step.rewards, step.valid, ended)
        if tally.is_complete:
            return tally.returns, tally.lengths
        env.send(to_env(np.asarray(agent.act_greedy(step.observations))), step.env_ids)


class _Tally:
    """Sums up episodes, and keeps those that each environment owes."""

    def __init__(self, episodes: int, num_envs: int) -> None:
        self.returns = np.zeros(episodes)
        self.lengths = np.zeros(episodes, np.int64)
        self._owed = episodes // num_envs + (np.arange(num_envs) < episodes % num_envs)
        self._next = np.cumsum(self._owed) - self._owed
        self._return = np.zeros(num_envs)
        self._length = np.zeros(num_envs, np.int64)

    @property
    def is_complete(self) -> bool:
        """Whether every environment has played its episodes."""
        return not self._owed.any()

    def add(self, env_ids: Array, rewards: Array, valid: Array, ended: Array) -> None:
        """Take one vector step of B rows; `ended` marks the last rows of episodes."""
        self._return[env_ids] += np.where(valid, rewards, 0.0)
        self._length[env_ids] += valid
        done = env_ids[ended]
        kept = done[self._owed[done] > 0]
        self.returns[self._next[kept]] = self._return[kept]
        self.lengths[self._next[kept]] = self._length[kept]
        self._next[kept] += 1
        self._owed[kept] -= 1
        # Assigned, not subtracted: NaN would stay.
        self._return[done] = 0.0
        self._length[done] = 0
