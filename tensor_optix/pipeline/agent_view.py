"""Environments as an agent sees them: in come a backend's rows, out go those that fit the agent.

Ready-made agents see the parts of a Dict or a Tuple side by side in one row; an agent of the user's sees what
the environment gave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tensor_optix.core.observation_layout import FlatSpace, has_parts, seen_space
from tensor_optix.pipeline.vector_contract import VectorEnv, VectorStep

if TYPE_CHECKING:
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.types import Array


def seen_by(agent: BaseAgent, env: VectorEnv) -> VectorEnv:
    """Return `env` as `agent` sees it: itself where nothing has to be translated.

    Raises:
        ValueError: If no part of the observation space is made of numbers.
    """
    if agent.sees_rows and has_parts(env.observation_space):
        return FlatView(env)
    return env


class FlatView(VectorEnv):
    """Environments whose observations come as objects, seen as rows of numbers.

    Args:
        env: It is stepped, reset and closed through this view.
    """

    def __init__(self, env: VectorEnv) -> None:
        space = seen_space(env.observation_space)
        assert isinstance(space, FlatSpace)
        super().__init__(
            env.name, (space, env.action_space), env.num_envs, env.batch_size, env.max_episode_steps
        )
        self._env, self._space = env, space
        self.recipe, self.info_keys = env.recipe, env.info_keys

    def reset(self, seed: int | None = None) -> None:
        """Reset every environment."""
        self._env.reset(seed)

    def recv(self) -> VectorStep:
        """Wait for rows, and lay their observations out."""
        step = self._env.recv()
        return step._replace(
            observations=self._rows(step.observations),
            end_observations=self._rows(step.end_observations),
        )

    def send(self, actions: Array, env_ids: Array) -> None:
        """Send one action to each environment."""
        self._env.send(actions, env_ids)

    def close(self) -> None:
        """Close what the library made."""
        self._env.close()

    def _rows(self, observations: Array) -> Array:
        rows = [self._space.flattened(one) for one in observations]
        return np.stack(rows) if rows else np.empty((0, self._space.shape[0]), self._space.dtype)
