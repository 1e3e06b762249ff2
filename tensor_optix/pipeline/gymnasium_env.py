"""Environments that Gymnasium runs: a plain one, or a vector one in any autoreset mode.

In come `gymnasium.Env` and `gymnasium.vector.VectorEnv` objects; out come `VectorStep` rows.
"""

from __future__ import annotations

import functools
import warnings
from abc import abstractmethod
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from tensor_optix.core.observation_layout import ACTION_MASK, has_parts, laid_out, seen_space
from tensor_optix.core.observation_values import ObservationDoor, described
from tensor_optix.pipeline.action_masks import MaskReader
from tensor_optix.pipeline.checked_env import CheckedEnv, core, cores, reset_answer, step_answer
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
        self._masks = MaskReader(f"environment {type(env.unwrapped).__name__}", num_envs)

    def reset(self, seed: int | None = None) -> None:
        """Reset every environment."""
        self._take_over(cores(self._env))
        observations, infos = self._reset_all(None if seed is None else int(seed))
        masks = self._masks.begin(infos)
        self.mask_size = self._masks.size
        flags = self._no_flags
        first = VectorStep(
            self._ids, observations, self._no_rewards, flags, flags, flags, self._no_ends
        )
        self._received = (
            first if masks is None else first._replace(action_masks=masks, end_masks=masks[:0])
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
    def _reset_all(self, seed: int | None) -> tuple[Array, Mapping[str, Any]]:
        """Reset every environment and return the first observations, `[N, ...]`, and a vector's infos."""

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
        self.label = env.name
        self._action = _action_maker(env.action_space)

    def _reset_all(self, seed: int | None) -> tuple[Array, Mapping[str, Any]]:
        observation, info = self._env.reset(seed=seed)
        return np.asarray(observation, self._dtype)[None], _of_one(info)

    def _step(self, actions: Array) -> VectorStep:
        action = self._action(actions[0])
        observation, reward, terminated, truncated, info = self._env.step(action)
        observations = np.asarray(observation, self._dtype)[None]
        ends, done = self._no_ends, terminated or truncated
        masks, end_masks = self._masks_of(info, done) if self.needs_masks else (None, None)
        if done:
            # The reset may overwrite the buffer that the observation lies in.
            ends = observations.copy()
            observations, first_info = self._reset_all(None)
            if masks is not None:
                masks = self._masks.read(first_info, self._all_valid)
        return VectorStep(
            self._ids,
            observations,
            np.array([reward], np.float32),
            np.array([terminated], bool),
            np.array([truncated], bool),
            self._all_valid,
            ends,
            (self._kept(info or {}),),
            masks,
            end_masks,
        )

    def _masks_of(self, info: Mapping[str, Any], done: bool) -> tuple[Array | None, Array | None]:
        """Return the mask after a step, and that of the last observation where an episode is done."""
        if not self.mask_size:
            self._masks.refuse(info)
            return None, None
        masks = self._masks.read(_of_one(info), ~self._all_valid if done else self._all_valid)
        return masks, masks[: int(done)]

    def _kept(self, info: dict[str, Any]) -> dict[str, Any]:
        # A copy, as the environment may go on writing into its own.
        return dict(info) if self.info_keys is None else self.info_keys.of_row(info)


class GymnasiumEnv(LockstepEnv):
    """A `gymnasium.vector.VectorEnv`, in whatever way it resets its environments.

    Observations of several parts, a Dict or a Tuple, come as rows, a mask of the actions behind them.

    Args:
        env: The vector environment; `metadata["autoreset_mode"]` says how it resets.
        name: The backend's name.
        owned: Whether `close()` closes it.
    """

    def __init__(self, env: GymVectorEnv, name: str, owned: bool = False) -> None:
        # A vector environment of separate ones has no spec of its own.
        spec = env.envs[0].spec if isinstance(env, SyncVectorEnv) else env.spec
        space = env.single_observation_space
        seen = seen_space(space)
        super().__init__(env, name, (seen, env.single_action_space), env.num_envs, spec, owned)
        self._has_parts = has_parts(space)
        self._take_one: Callable[..., Array]
        self._take: Callable[..., Array]
        if self._has_parts:
            rows = laid_out(space)
            self._take_one, self._take = rows.flattened, rows.flattened_batch
        else:
            self._take_one = self._take = ObservationDoor(seen)
        makers = {
            NEXT_STEP: self._next_step_rows,
            SAME_STEP: self._same_step_rows,
            DISABLED: self._disabled_rows,
        }
        self._rows_without_infos = makers[_autoreset_mode(env)]
        self._resetting = self._no_flags
        self._who = f"vector environment {type(env.unwrapped).__name__}"
        own = core(env.envs[0]) if isinstance(env, SyncVectorEnv) else None
        self.label = self._who if own is None else f"environment {type(own).__name__}"

    def _reset_all(self, seed: int | None) -> tuple[Array, Mapping[str, Any]]:
        first = self._first_observations(self._env.reset(seed=seed))
        self._resetting = self._no_flags
        return first

    def _step(self, actions: Array) -> VectorStep:
        return self._rows(self._env.step(np.asarray(actions, self._action_dtype)))

    def _rows(self, result: StepResult) -> VectorStep:
        rows = self._rows_without_infos(result)
        if self.needs_masks and not self.mask_size:
            self._masks.refuse(result[4])
        if self.info_keys is None:
            return rows
        dones = rows.terminated | rows.truncated
        return rows._replace(infos=self.info_keys.of_rows(result[4], rows.valid, dones))

    @property
    def _reads_masks(self) -> bool:
        return self.needs_masks and self.mask_size > 0

    def _next_step_rows(self, result: StepResult) -> VectorStep:
        observations, rewards, terminated, truncated, done = self._arrays(result)
        resetting, self._resetting = self._resetting, done
        valid = self._all_valid
        if np.count_nonzero(resetting):
            valid = ~resetting
            rewards = np.where(resetting, NO_REWARD, rewards)
            terminated, truncated, done = terminated & valid, truncated & valid, done & valid
        ends = observations.compress(done, 0) if np.count_nonzero(done) else self._no_ends
        rows = VectorStep(self._ids, observations, rewards, terminated, truncated, valid, ends)
        if not self._reads_masks:
            return rows
        masks = self._masks.read(result[4], ~done)
        return rows._replace(action_masks=masks, end_masks=masks[done])

    def _same_step_rows(self, result: StepResult) -> VectorStep:
        observations, rewards, terminated, truncated, done = self._arrays(result)
        ends = (
            self._final_observations(result[4], done) if np.count_nonzero(done) else self._no_ends
        )
        valid = self._all_valid
        rows = VectorStep(self._ids, observations, rewards, terminated, truncated, valid, ends)
        if not self._reads_masks:
            return rows
        masks = self._masks.read(result[4], self._all_valid)
        return rows._replace(action_masks=masks, end_masks=self._masks.ends(result[4], done))

    def _disabled_rows(self, result: StepResult) -> VectorStep:
        observations, rewards, terminated, truncated, done = self._arrays(result)
        ends, valid = self._no_ends, self._all_valid
        masks = self._masks.read(result[4], ~done) if self._reads_masks else None
        end_masks = None if masks is None else masks[done]
        if np.count_nonzero(done):
            ends = observations.compress(done, 0)
            fresh = self._env.reset(options={"reset_mask": done})
            observations, infos = self._first_observations(fresh)
            if masks is not None:
                masks[done] = self._masks.read(infos, done)[done]
        rows = VectorStep(self._ids, observations, rewards, terminated, truncated, valid, ends)
        return rows._replace(action_masks=masks, end_masks=end_masks)

    def _arrays(self, result: StepResult) -> tuple[Array, Array, Array, Array, Array]:
        observations, rewards, *flags, _ = step_answer(result, self._who)
        terminated, truncated = (self._of_each("flags", each).astype(bool) for each in flags)
        return (
            self._take(observations, f"{self._who}: step", self.num_envs),
            self._of_each("rewards", rewards).astype(np.float32),
            terminated,
            truncated,
            terminated | truncated,
        )

    def _first_observations(self, result: Any) -> tuple[Array, Mapping[str, Any]]:
        observations, infos = reset_answer(result, self._who)
        return self._take(observations, f"{self._who}: reset", self.num_envs), infos or {}

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
        final, who = infos.get("final_obs"), f"{self._who}: step"
        if self._has_parts and isinstance(final, Mapping | tuple):
            return self._take(_rows_at(final, done), who, np.count_nonzero(done))
        if final is None or len(final) != self.num_envs:
            raise RuntimeError(
                f"a vector environment that resets in the same step must give "
                f"infos['final_obs'] with {self.num_envs} entries when an episode ends, got {final}"
            )
        # Gymnasium gives an array of objects, others one plain array [N, ...].
        return np.stack([self._take_one(final[row], who) for row in np.flatnonzero(done)])


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

    def _reset_all(self, seed: int | None) -> tuple[Array, Mapping[str, Any]]:
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


def _rows_at(nested: Any, chosen: Array) -> Any:
    """Return the chosen rows of nested observations, whose leaves are arrays `[N, ...]`."""
    if isinstance(nested, Mapping):
        return {key: _rows_at(part, chosen) for key, part in nested.items()}
    if isinstance(nested, tuple):
        return tuple(_rows_at(part, chosen) for part in nested)
    return np.asarray(nested)[chosen]


def _action_maker(space: AnySpace) -> Callable[[Any], Any]:
    """Return what makes an action for one plain environment of an element of an array of them."""
    if isinstance(space, Discrete):
        return int
    if not has_arrays(space):
        return _itself
    # An environment may keep the array that it is given, and the sender may reuse it: copy.
    return functools.partial(np.array, dtype=space_dtype(space))


def _of_one(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a plain environment's info says of its mask, as a vector of one would."""
    return {ACTION_MASK: [info[ACTION_MASK]]} if ACTION_MASK in info else {}


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
