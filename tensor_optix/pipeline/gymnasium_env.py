"""Environments that Gymnasium runs: a plain one, or a vector one in any autoreset mode.

In come `gymnasium.Env` and `gymnasium.vector.VectorEnv` objects; out come `VectorStep` rows.
"""

from __future__ import annotations

import functools
import warnings
from abc import abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from tensor_optix.pipeline.checked_env import (
    CheckedEnv,
    cores,
    described,
    fitting,
    reset_answer,
    step_answer,
)
from tensor_optix.pipeline.game import game_infos
from tensor_optix.pipeline.vector_contract import (
    NO_REWARD,
    VectorEnv,
    VectorStep,
    constant,
    has_arrays,
    space_dtype,
    space_shape,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import gymnasium

    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array

GymVectorEnv: TypeAlias = "gymnasium.vector.VectorEnv[Any, Any, Any]"
StepResult: TypeAlias = tuple[Any, Any, Any, Any, dict[str, Any]]

NEXT_STEP, SAME_STEP, DISABLED = "nextstep", "samestep", "disabled"


class LockstepEnv(VectorEnv):
    """A backend that delivers all N rows in order, computed by the time `send` returns.

    Args:
        env: What Gymnasium made, or the user.
        name: The backend's name.
        spaces: The observation space and the action space of one environment.
        num_envs: N.
        spec: Where the time limit is found; None where unknown.
        owned: Whether `close()` closes `env`.
    """

    def __init__(
        self,
        env: Any,
        name: str,
        spaces: tuple[AnySpace, AnySpace],
        num_envs: int,
        spec: Any,
        owned: bool,
    ) -> None:
        limit = None if spec is None else spec.max_episode_steps
        super().__init__(name, spaces, num_envs, max_episode_steps=limit)
        self._env = env
        self._owned = owned
        self._received: VectorStep | None = None
        self._sendable = False
        self._ids = constant(np.arange(num_envs))
        self._no_flags = constant(np.zeros(num_envs, bool))
        self._all_valid = constant(np.ones(num_envs, bool))
        self._no_rewards = constant(np.zeros(num_envs, np.float32))
        self._dtype = space_dtype(self.observation_space)
        self._action_dtype = space_dtype(self.action_space)
        shape = space_shape(self.observation_space)
        self._shape = (num_envs, *shape)
        self._no_ends = constant(np.empty((0, *shape), self._dtype))

    def reset(self, seed: int | None = None) -> None:
        """Reset every environment."""
        self._take_over(cores(self._env))
        observations = self._reset_all(None if seed is None else int(seed))
        flags = self._no_flags
        self._received = VectorStep(
            self._ids, observations, self._no_rewards, flags, flags, flags, self._no_ends
        )
        self._sendable = False

    def recv(self) -> VectorStep:
        """Return the rows of the last `send` or `reset`."""
        rows = self._received
        if rows is None:
            self._require_held()
            raise RuntimeError("recv() has nothing to return: call reset() or send() before it")
        self._received = None
        self._sendable = True
        return rows

    def send(self, actions: Array, env_ids: Array) -> None:
        """Step every environment."""
        self._check_turn(env_ids)
        self._received = self._step(actions)

    def close(self) -> None:
        """Close the environments if they are the library's."""
        if self._owned:
            self._owned = False
            self._env.close()

    def _check_turn(self, env_ids: Array) -> None:
        if not self._sendable:
            self._require_held()
            raise RuntimeError("send() has no rows to answer: call recv() before it")
        if env_ids is not self._ids and not np.array_equal(env_ids, self._ids):
            raise ValueError(
                f"env_ids must be those that recv() delivered, 0 to {self.num_envs - 1} in order, "
                f"got {env_ids}"
            )
        self._sendable = False

    def let_go(self) -> None:
        """Drop the rows under way, too."""
        super().let_go()
        self._received = None
        self._sendable = False

    @abstractmethod
    def _reset_all(self, seed: int | None) -> Array:
        """Reset every environment and return the first observations, `[N, ...]`."""

    @abstractmethod
    def _step(self, actions: Array) -> VectorStep:
        """Take one step and return its rows."""


class SingleEnv(LockstepEnv):
    """One plain environment, of any spaces. Its rows are all valid but the first one after `reset()`.

    Observations of a space without arrays come as one object a row, and actions of such a space go to the
    environment as the object that is sent.

    Args:
        env: The environment; its time limit is its own business.
        name: The backend's name.
        owned: Whether `close()` closes it.
    """

    takes_any_space = True
    _env: CheckedEnv

    def __init__(self, env: CheckedEnv, name: str = "single", owned: bool = False) -> None:
        super().__init__(env, name, (env.observation_space, env.action_space), 1, env.spec, owned)
        self._action = _action_maker(env.action_space)
        self._game = game_infos(env.metadata)

    def _reset_all(self, seed: int | None) -> Array:
        observation, _ = self._env.reset(seed=seed)
        return np.asarray(observation, self._dtype)[None]

    def _step(self, actions: Array) -> VectorStep:
        action = self._action(actions[0])
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
            (self._kept(info or {}),),
            None if self._game is None else self._game.of_row(info),
        )

    def _kept(self, info: dict[str, Any]) -> dict[str, Any]:
        # A copy, as the environment may go on writing into its own.
        return dict(info) if self.info_keys is None else self.info_keys.of_row(info)


class GymnasiumEnv(LockstepEnv):
    """A `gymnasium.vector.VectorEnv`, in whatever way it resets its environments.

    Args:
        env: The vector environment; `metadata["autoreset_mode"]` says how it resets.
        name: The backend's name.
        owned: Whether `close()` closes it.
    """

    def __init__(self, env: GymVectorEnv, name: str, owned: bool = False) -> None:
        # A vector environment of separate ones has no spec of its own.
        spec = env.envs[0].spec if isinstance(env, SyncVectorEnv) else env.spec
        spaces = (env.single_observation_space, env.single_action_space)
        super().__init__(env, name, spaces, env.num_envs, spec, owned)
        makers = {
            NEXT_STEP: self._next_step_rows,
            SAME_STEP: self._same_step_rows,
            DISABLED: self._disabled_rows,
        }
        self._rows_without_infos = makers[_autoreset_mode(env)]
        self._game = game_infos(env.metadata)
        self._resetting = self._no_flags
        self._who = f"vector environment {type(env.unwrapped).__name__}"

    def _reset_all(self, seed: int | None) -> Array:
        observations = self._first_observations(self._env.reset(seed=seed))
        self._resetting = self._no_flags
        return observations

    def _step(self, actions: Array) -> VectorStep:
        return self._rows(self._env.step(np.asarray(actions, self._action_dtype)))

    def _rows(self, result: StepResult) -> VectorStep:
        rows = self._rows_without_infos(result)
        dones = rows.terminated | rows.truncated
        if self._game is not None:
            rows = rows._replace(game=self._game.of_rows(result[4], rows.valid, dones))
        if self.info_keys is None:
            return rows
        return rows._replace(infos=self.info_keys.of_rows(result[4], rows.valid, dones))

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
        ends = (
            self._final_observations(result[4], done) if np.count_nonzero(done) else self._no_ends
        )
        valid = self._all_valid
        return VectorStep(self._ids, observations, rewards, terminated, truncated, valid, ends)

    def _disabled_rows(self, result: StepResult) -> VectorStep:
        observations, rewards, terminated, truncated, done = self._arrays(result)
        ends = self._no_ends
        if np.count_nonzero(done):
            ends = observations.compress(done, 0)
            fresh = self._env.reset(options={"reset_mask": done})
            observations = self._first_observations(fresh)
        valid = self._all_valid
        return VectorStep(self._ids, observations, rewards, terminated, truncated, valid, ends)

    def _arrays(self, result: StepResult) -> tuple[Array, Array, Array, Array, Array]:
        observations, rewards, *flags, _ = step_answer(result, self._who)
        terminated, truncated = (self._of_each("flags", each).astype(bool) for each in flags)
        return (
            fitting(observations, self._shape, self._dtype, f"{self._who}: step"),
            self._of_each("rewards", rewards).astype(np.float32),
            terminated,
            truncated,
            terminated | truncated,
        )

    def _first_observations(self, result: Any) -> Array:
        observations, _ = reset_answer(result, self._who)
        return fitting(observations, self._shape, self._dtype, f"{self._who}: reset")

    def _of_each(self, name: str, value: Any) -> Array:
        """Return one number per environment; they may come as a column."""
        given = np.asarray(value)
        if given.size != self.num_envs or given.dtype.kind not in "biuf":
            raise TypeError(
                f"{self._who}: step must return {name} of the shape ({self.num_envs},), got "
                f"{described(value)}: one number for each environment"
            )
        return given.reshape(self.num_envs)

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


def _action_maker(space: AnySpace) -> Callable[[Any], Any]:
    """Return what makes an action for one plain environment of an element of an array of them."""
    if isinstance(space, Discrete):
        return int
    if not has_arrays(space):
        return _itself
    # An environment may keep the array that it is given, and the sender may reuse it: copy.
    return functools.partial(np.array, dtype=space_dtype(space))


def _itself(action: Any) -> Any:
    return action


def _autoreset_mode(env: GymVectorEnv) -> str:
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
