"""Environments that Gymnasium runs: a plain one, or a vector one in any autoreset mode.

In come `gymnasium.Env` and `gymnasium.vector.VectorEnv` objects; out come `VectorStep` rows.
"""

from __future__ import annotations

import functools
import logging
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
from tensor_optix.core.plain_warnings import warnings_once
from tensor_optix.pipeline.action_masks import MaskReader
from tensor_optix.pipeline.checked_env import (
    MOST_SECONDS,
    ONE_REWARD,
    CheckedEnv,
    core,
    cores,
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
from tensor_optix.pipeline.worker_processes import WorkerVectorEnv

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import gymnasium

    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array

GymVectorEnv: TypeAlias = "gymnasium.vector.VectorEnv[Any, Any, Any]"
StepResult: TypeAlias = tuple[Any, Any, Any, Any, dict[str, Any]]

logger = logging.getLogger(__name__)

NEXT_STEP, SAME_STEP, DISABLED, UNSAID = "nextstep", "samestep", "disabled", ""
FINAL_OBSERVATIONS = ("final_obs", "final_observation")
"""Where vector environments that reset in the same step put the last observations: now, and once."""


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

    _checked = False
    """Whether each environment is a `CheckedEnv`, which can be asked for its state."""

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
        self._begun_with: int | None = None
        self._resetting = constant(np.zeros(num_envs, bool))
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
        self._take_step = self._first_step

    def reset(self, seed: int | None = None) -> None:
        """Reset every environment, unless that has just been done with this seed."""
        if self._received is not None and seed is not None and seed == self._begun_with:
            return
        self._take_over(cores(self._env))
        with warnings_once():
            observations, infos = self._reset_all(None if seed is None else int(seed))
        self._begun_with = seed
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

    def need_masks(self, is_needed: bool) -> None:
        """Note it; what was told must be masks then."""
        super().need_masks(is_needed)
        if is_needed:
            self._masks.require()

    def recv(self) -> VectorStep:
        """Return the rows of the last `send` or `reset`."""
        rows = self._received
        if rows is None:
            self._require_held()
            raise RuntimeError("recv() has nothing to return: call reset() or send() before it")
        self._received = self._begun_with = None
        self._sendable = True
        return rows

    def send(self, actions: Array, env_ids: Array) -> None:
        """Step every environment."""
        self._check_turn(env_ids)
        self._received = self._take_step(actions)

    def episode_states(self) -> list[dict[str, Any]] | None:
        """Return what the episodes under way can be rebuilt from; None where one cannot."""
        if not (self._sendable and self._is_held and self._checked):
            return None
        try:
            states = self._of_checked("episode_state")
        except RuntimeError as error:
            # A process is gone: who steps on is told, and whoever saves a state is to save all else.
            logger.warning("%s", error)
            return None
        return None if None in states else states

    def rebuild(self, states: Sequence[dict[str, Any]]) -> bool:
        """Go on with the episodes of `episode_states`."""
        if len(states) != self.num_envs:
            raise ValueError(
                f"there must be {self.num_envs} episodes to go on with, got {len(states)}"
            )
        if not self._checked:
            return False
        with warnings_once():
            self._set_states(states)
            observations, infos = self._reset_all(None)
        self._resetting = np.array(self._of_checked("owes_reset"), bool)
        flags = self._no_flags
        rows = VectorStep(
            self._ids, observations, self._no_rewards, flags, flags, flags, self._no_ends
        )
        if self._reads_masks:
            masks = self._masks.read(infos, ~self._resetting)
            rows = rows._replace(action_masks=masks, end_masks=masks[:0])
        self._received, self._begun_with, self._sendable = rows, None, False
        return all(self._of_checked("is_rebuilt"))

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

    def _first_step(self, actions: Array) -> VectorStep:
        """Take the step in which Gymnasium looks at an environment, and warns of it."""
        self._take_step = self._step
        with warnings_once():
            return self._step(actions)

    @abstractmethod
    def _reset_all(self, seed: int | None) -> tuple[Array, Mapping[str, Any]]:
        """Reset every environment and return the first observations, `[N, ...]`, and a vector's infos."""

    @abstractmethod
    def _step(self, actions: Array) -> VectorStep:
        """Take one step and return its rows."""

    @property
    def _reads_masks(self) -> bool:
        return self.needs_masks and self.mask_size > 0

    @abstractmethod
    def _of_checked(self, name: str) -> list[Any]:
        """Return an attribute of each environment; called only where all of them are `CheckedEnv`."""

    @abstractmethod
    def _set_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Set of each environment what its next reset goes on with."""


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
    _checked = True
    _env: CheckedEnv

    def __init__(self, env: CheckedEnv, name: str = "single", owned: bool = False) -> None:
        super().__init__(env, name, (env.observation_space, env.action_space), 1, env.spec, owned)
        self.label = env.name
        self._action = _action_maker(env.action_space)
        self._game = game_infos(env.metadata)

    def _reset_all(self, seed: int | None) -> tuple[Array, Mapping[str, Any]]:
        observation, info = self._env.reset(seed=seed)
        return np.asarray(observation, self._dtype)[None], _of_one(info)

    def _of_checked(self, name: str) -> list[Any]:
        return [getattr(self._env, name)]

    def _set_states(self, states: Sequence[dict[str, Any]]) -> None:
        self._env.episode_state = {**states[0], "seconds": MOST_SECONDS}

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
            self._all_valid if terminated else self._no_flags,
            self._all_valid if truncated else self._no_flags,
            self._all_valid,
            ends,
            (self._kept(info or {}),),
            masks,
            end_masks,
            None if self._game is None else self._game.of_row(info),
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
        env: The vector environment; its own `autoreset_mode`, else that of its metadata, says how it resets.
            Where neither does, the first end of an episode tells. One that resets in the same step gives the
            last observation of an episode in `infos["final_obs"]`; where it does not, the observation before
            that stands in for it.
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
            UNSAID: self._rows_until_an_end,
        }
        self._rows_without_infos = makers[_autoreset_mode(env)]
        self._game = game_infos(env.metadata)
        self._checked = isinstance(env, WorkerVectorEnv) or (
            isinstance(env, SyncVectorEnv)
            and all(isinstance(each, CheckedEnv) for each in env.envs)
        )
        self._shown = self._no_ends
        self._has_warned = False
        self._who = f"vector environment {type(env.unwrapped).__name__}"
        own = core(env.envs[0]) if isinstance(env, SyncVectorEnv) else None
        self.label = self._who if own is None else f"environment {type(own).__name__}"

    def _reset_all(self, seed: int | None) -> tuple[Array, Mapping[str, Any]]:
        first = self._first_observations(self._env.reset(seed=seed))
        self._resetting = self._no_flags
        self._shown = first[0].copy()
        return first

    def _step(self, actions: Array) -> VectorStep:
        # A copy, as an environment may clip in place what it is given, or keep it.
        return self._rows(self._env.step(np.array(actions, self._action_dtype)))

    def _rows(self, result: StepResult) -> VectorStep:
        rows = self._rows_without_infos(result)
        if self.needs_masks and not self.mask_size:
            self._masks.refuse(result[4])
        if self._game is None and self.info_keys is None:
            return rows
        dones = rows.terminated | rows.truncated
        if self._game is not None:
            rows = rows._replace(game=self._game.of_rows(result[4], rows.valid, dones))
        if self.info_keys is None:
            return rows
        return rows._replace(infos=self.info_keys.of_rows(result[4], rows.valid, dones))

    def _of_checked(self, name: str) -> list[Any]:
        return list(self._env.get_attr(name))

    def _set_states(self, states: Sequence[dict[str, Any]]) -> None:
        limit = {"seconds": self._rebuild_seconds}
        self._env.set_attr("episode_state", [{**state, **limit} for state in states])

    @property
    def _rebuild_seconds(self) -> float:
        """Which each environment may take; they take turns."""
        return MOST_SECONDS / self.num_envs

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

    def _rows_until_an_end(self, result: StepResult) -> VectorStep:
        """Return rows of which none ended; with the first one that did, choose how rows are made."""
        *_, done = self._arrays(result)
        if not np.count_nonzero(done):
            return self._same_step_rows(result)
        resets_at_once = any(name in result[4] for name in FINAL_OBSERVATIONS)
        self._rows_without_infos = self._same_step_rows if resets_at_once else self._next_step_rows
        return self._rows_without_infos(result)

    def _same_step_rows(self, result: StepResult) -> VectorStep:
        observations, rewards, terminated, truncated, done = self._arrays(result)
        ends = self._no_ends
        if np.count_nonzero(done):
            ends = self._final_observations(result[4], done, truncated & ~terminated)
        # A copy, as the environment may write over its own.
        self._shown = observations.copy()
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
            several = name == "rewards" and given.ndim > 1
            raise TypeError(
                f"{self._who}: step must return {name} of the shape ({self.num_envs},), got "
                f"{described(value)}: {ONE_REWARD if several else 'one number for each environment'}"
            )
        return given.reshape(self.num_envs)

    def _final_observations(self, infos: dict[str, Any], done: Array, cut: Array) -> Array:
        """Return the last observations, `[K, ...]`, of the K rows of which episodes are `done`."""
        given = _given_finals(infos, self.num_envs)
        ends = self._shown.copy()
        for row in np.flatnonzero(done):
            if given[row] is not None:
                ends[row] = self._take_one(given[row], f"{self._who}: infos['final_obs']")
            elif cut[row]:
                self._warn_of_a_stand_in()
        return ends.compress(done, 0)

    def _warn_of_a_stand_in(self) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        logger.warning(
            "%s resets in the step that ends an episode, and does not give that episode's last observation: "
            "where a time limit cuts, the observation before it stands in. Put the last ones into "
            "infos['final_obs']",
            self._who,
        )


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
        """Close the workers if they are the library's; else wait for the step under way."""
        if self._owned:
            self._stepping = False
        try:
            self._finish_step()
        finally:
            super().close()

    def _reset_all(self, seed: int | None) -> tuple[Array, Mapping[str, Any]]:
        self._finish_step()
        return super()._reset_all(seed)

    @property
    def _rebuild_seconds(self) -> float:
        limit = self._env.timeouts.reset if isinstance(self._env, WorkerVectorEnv) else None
        # It is a part of a reset, which ends the worker if it takes too long.
        return MOST_SECONDS if limit is None else min(MOST_SECONDS, limit / 2)

    def _finish_step(self) -> None:
        if self._stepping:
            self._stepping = False
            self._env.step_wait()


def wrap_gymnasium(env: GymVectorEnv, name: str, owned: bool = False) -> GymnasiumEnv:
    """Return the adapter that fits a Gymnasium vector environment."""
    adapter = AsyncGymnasiumEnv if isinstance(env, AsyncVectorEnv) else GymnasiumEnv
    return adapter(env, name, owned)


def _row_of(nested: Any, row: int) -> Any:
    """Return one row of nested observations, whose leaves are arrays `[N, ...]`."""
    if isinstance(nested, Mapping):
        return {key: _row_of(part, row) for key, part in nested.items()}
    if isinstance(nested, tuple):
        return tuple(_row_of(part, row) for part in nested)
    return nested[row]


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

    The instance is asked before its metadata, which Gymnasium 1.1 to 1.3 write into a dict that the class
    shares. Gymnasium 1.0 knows only the next step and has neither tag nor enum.

    Returns:
        `NEXT_STEP`, `SAME_STEP`, `DISABLED` or, with a warning, `UNSAID`.

    Raises:
        ValueError: If the tag is none of the three.
    """
    tag = getattr(env.unwrapped, "autoreset_mode", None) or env.metadata.get("autoreset_mode")
    if tag is None and _is_gymnasiums(env.unwrapped):
        return NEXT_STEP
    if tag is None:
        warnings.warn(
            f"{type(env).__name__} does not say how it resets its environments: assuming the same step if it "
            f"gives final observations, else the step after the end. Set metadata['autoreset_mode'] to be "
            f"sure.",
            stacklevel=2,
        )
        return UNSAID
    mode = str(tag.value if isinstance(tag, Enum) else tag).replace("_", "").lower()
    if mode not in (NEXT_STEP, SAME_STEP, DISABLED):
        raise ValueError(
            f"metadata['autoreset_mode'] must be NEXT_STEP, SAME_STEP or DISABLED, got {tag!r}"
        )
    return mode


def _is_gymnasiums(env: GymVectorEnv) -> bool:
    own_module = type(env).__module__.startswith("gymnasium.")
    return own_module or isinstance(env, AsyncVectorEnv | SyncVectorEnv)


def _given_finals(infos: Mapping[str, Any], num_envs: int) -> list[Any]:
    """Return the last observation of each environment whose episode ended, None where none was given.

    Gymnasium gives an array of objects, others one plain array `[N, ...]`, a list, or a dict or tuple of
    arrays.

    Raises:
        RuntimeError: If they are not as many as there are environments.
    """
    name = next((name for name in FINAL_OBSERVATIONS if infos.get(name) is not None), None)
    if name is None:
        return [None] * num_envs
    given = infos[name]
    if isinstance(given, Mapping | tuple):
        given = [_row_of(given, row) for row in range(num_envs)]
    if len(given) != num_envs:
        raise RuntimeError(
            f"infos[{name!r}] must have {num_envs} entries, one for each environment, got {len(given)}"
        )
    has_one = infos.get(f"_{name}", [True] * num_envs)
    return [each if has else None for each, has in zip(given, has_one, strict=True)]
