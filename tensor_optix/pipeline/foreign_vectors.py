"""Vector environments of other libraries: SuperSuit's and Stable-Baselines3's come in, Gymnasium's go out.

They have one environment's spaces as their own, reset in the step that ends an episode, and give a list of
infos, in which the last observation of an episode is `"terminal_observation"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Space
from gymnasium.vector.utils import batch_space

from tensor_optix.core.observation_values import described
from tensor_optix.pipeline.checked_env import core

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.types import Array

LAST_OBSERVATION = "terminal_observation"
TIME_LIMIT = "TimeLimit.truncated"
SB3_METHODS = ("step_async", "step_wait", "env_method", "seed")


def as_vector(env: Any) -> gymnasium.vector.VectorEnv[Any, Any, Any] | None:
    """Return a vector environment in Gymnasium's form; None if `env` is none.

    Raises:
        TypeError: If it says nothing of its spaces, or is one environment of several agents.
    """
    if hasattr(env, "possible_agents"):
        raise TypeError(
            f"env must be an environment of one agent, got {type(env).__name__} of PettingZoo: where its "
            "agents are to share a policy, supersuit.pettingzoo_env_to_vec_env_v1(env) makes a vector of them"
        )
    if not isinstance(env, gymnasium.vector.VectorEnv):
        return StableBaselinesVector(env) if _is_stable_baselines(env) else None
    if isinstance(getattr(env, "single_observation_space", None), Space):
        return env
    return ListedVector(env)


class ListedVector(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """A vector environment that lists its infos: SuperSuit's, with the agents of PettingZoo's side by side.

    Args:
        env: Has `num_envs`, `observation_space` and `action_space` of one environment, `reset` and `step`.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self.num_envs = int(env.num_envs)
        self.single_observation_space = _space_of(env, "observation_space")
        self.single_action_space = _space_of(env, "action_space")
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.metadata = {**(getattr(env, "metadata", None) or {}), "autoreset_mode": "SameStep"}

    @property
    def unwrapped(self) -> Any:
        """The other library's object, without wrappers."""
        return core(self.env)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset every environment."""
        observations, infos = self.env.reset(seed=seed, options=options)
        # SuperSuit's processes each give something of their own.
        per_env = len(infos) == self.num_envs and all(isinstance(info, dict) for info in infos)
        return observations, self._gathered(infos) if per_env else {}

    def step(self, actions: Array) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """Step every environment."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        return observations, rewards, terminated, truncated, self._gathered(infos)

    def close(self, **kwargs: Any) -> None:
        """Close the environments."""
        self.env.close()

    def _gathered(self, listed: Any) -> dict[str, Any]:
        """Return a list of infos as Gymnasium has them: an array per key, and a mask of who has it."""
        if isinstance(listed, dict):
            return listed
        if not isinstance(listed, list | tuple) or len(listed) != self.num_envs:
            raise TypeError(
                f"vector environment {type(self.env).__name__}: expected a list of {self.num_envs} infos, "
                f"one for each environment, got {described(listed)}"
            )
        infos: dict[str, Any] = {}
        for number, info in enumerate(listed):
            if info:
                named = {"final_obs" if k == LAST_OBSERVATION else k: v for k, v in info.items()}
                infos = self._add_info(infos, named, number)
        return infos


class StableBaselinesVector(ListedVector):
    """A `VecEnv` of Stable-Baselines3: `reset` gives observations alone, `step` one flag for both ends."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset every environment, with seeds that count up from `seed`."""
        if seed is not None:
            self.env.seed(seed)
        return self.env.reset(), {}

    def step(self, actions: Array) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """Step every environment. A time limit is told apart by `"TimeLimit.truncated"` in its info."""
        observations, rewards, dones, infos = self.env.step(actions)
        done = np.asarray(dones, bool)
        truncated = done & _flags(infos)
        return observations, rewards, done & ~truncated, truncated, self._gathered(infos)


def _is_stable_baselines(env: Any) -> bool:
    """Whether `env` has what a `VecEnv` has. Stable-Baselines3 is not imported."""
    return hasattr(env, "num_envs") and all(
        callable(getattr(env, name, None)) for name in SB3_METHODS
    )


def _flags(infos: Sequence[dict[str, Any]]) -> Array:
    return np.array([bool(info.get(TIME_LIMIT, False)) for info in infos])


def _space_of(env: Any, attribute: str) -> Space[Any]:
    space = getattr(env, attribute, None)
    if not isinstance(space, Space):
        raise TypeError(
            f"{type(env).__name__}.{attribute} must be the gymnasium space of one environment, got "
            f"{described(space)}"
        )
    return space
