"""The vector environments of Gymnasium, and of those who follow its interface.

In come `gymnasium.vector.VectorEnv` objects in any autoreset mode; out come `VectorStep` rows.
"""

from __future__ import annotations

import warnings
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from tensor_optix.pipeline._single_env import InProcessEnv
from tensor_optix.pipeline._vector_contract import NO_REWARD, VectorStep, space_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

    import gymnasium

    from tensor_optix.core.types import Array

GymVectorEnv: TypeAlias = "gymnasium.vector.VectorEnv[Any, Any, Any]"
StepResult: TypeAlias = tuple[Any, Any, Any, Any, dict[str, Any]]

NEXT_STEP, SAME_STEP, DISABLED = "nextstep", "samestep", "disabled"


class GymnasiumEnv(InProcessEnv):
    """A `gymnasium.vector.VectorEnv`, in whatever way it resets its environments."""

    def __init__(self, env: GymVectorEnv, name: str, owned: bool = False) -> None:
        """Wrap `env`.

        Args:
            env: The vector environment; `metadata["autoreset_mode"]` says how it resets.
            name: The backend's name.
            owned: Whether `close()` closes it.
        """
        # A vector environment of separate ones has no spec of its own.
        spec = env.envs[0].spec if isinstance(env, SyncVectorEnv) else env.spec
        limit = None if spec is None else spec.max_episode_steps
        spaces = (env.single_observation_space, env.single_action_space)
        super().__init__(name, spaces, env.num_envs, max_episode_steps=limit)
        self._env = env
        self._owned = owned
        self._action_dtype = space_dtype(env.single_action_space)
        self._prepare()
        self._rows = self._row_maker(autoreset_mode(env))
        self._resetting = self._no_flags

    def close(self) -> None:
        """Close the environments if they are the library's."""
        if self._owned:
            self._owned = False
            self._env.close()

    def _reset_all(self, seed: int | None) -> Array:
        observations, _ = self._env.reset(seed=seed)
        self._resetting = self._no_flags
        return np.asarray(observations, self._dtype)

    def _step(self, actions: Array) -> VectorStep:
        return self._rows(self._env.step(np.asarray(actions, self._action_dtype)))

    def _row_maker(self, mode: str) -> Callable[[StepResult], VectorStep]:
        makers = {
            NEXT_STEP: self._next_step_rows,
            SAME_STEP: self._same_step_rows,
            DISABLED: self._disabled_rows,
        }
        return makers[mode]

    def _next_step_rows(self, result: StepResult) -> VectorStep:
        observations, rewards, terminated, truncated, done = self._arrays(result)
        resetting, self._resetting = self._resetting, done
        valid = self._all_valid
        if np.count_nonzero(resetting):
            valid = ~resetting
            rewards = np.where(resetting, NO_REWARD, rewards)
            terminated, truncated, done = terminated & valid, truncated & valid, done & valid
        ends = observations.compress(done, 0) if np.count_nonzero(done) else self._no_ends
        return VectorStep(self._ids, observations, rewards, terminated, truncated, valid, ends)

    def _same_step_rows(self, result: StepResult) -> VectorStep:
        observations, rewards, terminated, truncated, done = self._arrays(result)
        ends = self._no_ends
        if np.count_nonzero(done):
            ends = self._final_observations(result[4], done)
        valid = self._all_valid
        return VectorStep(self._ids, observations, rewards, terminated, truncated, valid, ends)

    def _disabled_rows(self, result: StepResult) -> VectorStep:
        observations, rewards, terminated, truncated, done = self._arrays(result)
        ends = self._no_ends
        if np.count_nonzero(done):
            ends = observations.compress(done, 0)
            # The reset may clear the very arrays that the step returned.
            rewards, terminated, truncated = rewards.copy(), terminated.copy(), truncated.copy()
            observations, _ = self._env.reset(options={"reset_mask": done})
            observations = np.asarray(observations, self._dtype)
        valid = self._all_valid
        return VectorStep(self._ids, observations, rewards, terminated, truncated, valid, ends)

    def _arrays(self, result: StepResult) -> tuple[Array, Array, Array, Array, Array]:
        terminated = np.asarray(result[2], bool)
        truncated = np.asarray(result[3], bool)
        return (
            np.asarray(result[0], self._dtype),
            np.asarray(result[1], np.float32),
            terminated,
            truncated,
            terminated | truncated,
        )

    def _final_observations(self, infos: dict[str, Any], done: Array) -> Array:
        final = infos.get("final_obs")
        if final is None or len(final) != self.num_envs:
            raise RuntimeError(
                f"a vector environment that resets in the same step must give "
                f"infos['final_obs'] with {self.num_envs} entries when an episode ends, got {final}"
            )
        # Gymnasium gives an array of objects, others one plain array [N, ...].
        return np.stack([final[row] for row in np.flatnonzero(done)]).astype(self._dtype)


class AsyncGymnasiumEnv(GymnasiumEnv):
    """A `gymnasium.vector.AsyncVectorEnv`: the environments step between `send()` and `recv()`."""

    _env: AsyncVectorEnv
    _stepping = False

    def recv(self) -> VectorStep:
        """Wait for the workers where a step is under way."""
        if self._stepping:
            self._stepping = False
            self._received = self._rows(self._env.step_wait())
        return super().recv()

    def send(self, actions: Array, env_ids: Array) -> None:
        """Hand the actions to the workers, without waiting for them."""
        self._check_turn(env_ids)
        self._env.step_async(np.asarray(actions, self._action_dtype))
        self._stepping = True

    def close(self) -> None:
        """Wait for the step under way, then close the workers if they are the library's."""
        try:
            self._finish_step()
        finally:
            super().close()

    def _reset_all(self, seed: int | None) -> Array:
        self._finish_step()
        return super()._reset_all(seed)

    def _finish_step(self) -> None:
        if self._stepping:
            self._stepping = False
            self._env.step_wait()


def wrap_gymnasium(env: GymVectorEnv, name: str, owned: bool = False) -> GymnasiumEnv:
    """Return the adapter that fits a Gymnasium vector environment."""
    adapter = AsyncGymnasiumEnv if isinstance(env, AsyncVectorEnv) else GymnasiumEnv
    return adapter(env, name, owned)


def autoreset_mode(env: GymVectorEnv) -> str:
    """Return when `env` resets an environment whose episode ended.

    Gymnasium 1.0 knows only the next step and has neither tag nor enum; a vector environment of
    another origin that does not say is assumed to do the same, with a warning.

    Returns:
        `NEXT_STEP`, `SAME_STEP` or `DISABLED`.

    Raises:
        ValueError: If the tag is none of the three.
    """
    tag = env.metadata.get("autoreset_mode")
    if tag is None:
        if not isinstance(env.unwrapped, AsyncVectorEnv | SyncVectorEnv):
            warnings.warn(
                f"{type(env).__name__} does not say how it resets its environments: assuming the "
                f"step after the end. Set metadata['autoreset_mode'] to be sure.",
                stacklevel=2,
            )
        return NEXT_STEP
    mode = str(tag.value if isinstance(tag, Enum) else tag).replace("_", "").lower()
    if mode not in (NEXT_STEP, SAME_STEP, DISABLED):
        raise ValueError(
            f"metadata['autoreset_mode'] must be NEXT_STEP, SAME_STEP or DISABLED, got {tag!r}"
        )
    return mode
