"""Backends that step in this process, in order: what they share, and the plain environment.

In come `gymnasium.Env` objects; out come `VectorStep` rows. `_gymnasium_env` builds on it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from gymnasium.spaces import Discrete

from tensor_optix.pipeline._vector_contract import VectorEnv, VectorStep, constant, space_dtype

if TYPE_CHECKING:
    import gymnasium

    from tensor_optix.core.types import Array

PlainEnv: TypeAlias = "gymnasium.Env[Any, Any]"


class InProcessEnv(VectorEnv):
    """A backend that delivers all N rows in order, computed by the time `send` returns.

    A subclass calls `_prepare` at the end of its constructor.
    """

    def _prepare(self) -> None:
        self._received: VectorStep | None = None
        self._sendable = False
        self._ids = constant(np.arange(self.num_envs))
        self._no_flags = constant(np.zeros(self.num_envs, bool))
        self._all_valid = constant(np.ones(self.num_envs, bool))
        self._no_rewards = constant(np.zeros(self.num_envs, np.float32))
        self._dtype = space_dtype(self.observation_space)
        shape = self.observation_space.shape or ()
        self._shape = (self.num_envs, *shape)
        self._no_ends = constant(np.empty((0, *shape), self._dtype))

    def reset(self, seed: int | None = None) -> None:
        """Reset every environment and check the shape of what it observes."""
        observations = self._reset_all(None if seed is None else int(seed))
        if observations.shape != self._shape:
            raise ValueError(
                f"the environment's observations must have the shape {self._shape} of its "
                f"observation space, got {observations.shape}"
            )
        self._received = self._first_rows(observations)
        self._sendable = False

    def recv(self) -> VectorStep:
        """Return the rows of the last `send` or `reset`."""
        rows = self._received
        if rows is None:
            raise RuntimeError("recv() has nothing to return: call reset() or send() before it")
        self._received = None
        self._sendable = True
        return rows

    def send(self, actions: Array, env_ids: Array) -> None:
        """Step every environment."""
        self._check_turn(env_ids)
        self._received = self._step(actions)

    def _check_turn(self, env_ids: Array) -> None:
        if not self._sendable:
            raise RuntimeError("send() has no rows to answer: call recv() before it")
        if env_ids is not self._ids and not np.array_equal(env_ids, self._ids):
            raise ValueError(
                f"env_ids must be those that recv() delivered, 0 to {self.num_envs - 1} in order, "
                f"got {env_ids}"
            )
        self._sendable = False

    def _first_rows(self, observations: Array) -> VectorStep:
        flags = self._no_flags
        return VectorStep(
            self._ids, observations, self._no_rewards, flags, flags, flags, self._no_ends
        )

    @abstractmethod
    def _reset_all(self, seed: int | None) -> Array:
        """Reset every environment and return the first observations, `[N, ...]`."""

    @abstractmethod
    def _step(self, actions: Array) -> VectorStep:
        """Take one step and return its rows."""


class SingleEnv(InProcessEnv):
    """One plain `gymnasium.Env`. Its rows are all valid but the first one after `reset()`."""

    def __init__(self, env: PlainEnv, owned: bool = False) -> None:
        """Wrap `env`.

        Args:
            env: The environment; its time limit is its own business.
            owned: Whether `close()` closes it.
        """
        limit = None if env.spec is None else env.spec.max_episode_steps
        spaces = (env.observation_space, env.action_space)
        super().__init__("single", spaces, num_envs=1, max_episode_steps=limit)
        self._env = env
        self._owned = owned
        self._discrete = isinstance(env.action_space, Discrete)
        self._action_dtype = space_dtype(env.action_space)
        self._prepare()

    def close(self) -> None:
        """Close the environment if it is the library's."""
        if self._owned:
            self._owned = False
            self._env.close()

    def _reset_all(self, seed: int | None) -> Array:
        observation, _ = self._env.reset(seed=seed)
        return np.asarray(observation, self._dtype)[None]

    def _step(self, actions: Array) -> VectorStep:
        # An environment may keep the array that it is given, and the sender may reuse it: copy.
        action = int(actions[0]) if self._discrete else np.array(actions[0], self._action_dtype)
        observation, reward, terminated, truncated, info = self._env.step(action)
        observations = np.asarray(observation, self._dtype)[None]
        ends = self._no_ends
        if terminated or truncated:
            # The reset may overwrite the buffer that the observation lies in.
            ends = observations.copy()
            observations = self._reset_all(None)
        return VectorStep(
            self._ids,
            observations,
            np.array([reward], np.float32),
            np.array([terminated], bool),
            np.array([truncated], bool),
            self._all_valid,
            ends,
            (info,),
        )
