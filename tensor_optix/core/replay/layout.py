"""What a replay row looks like: the first rows come in, sizes and the dtype of a slot go out.

A slot holds the newest frame of an observation, an action, and a head (see `kernels/replay.hpp`).
Without frame stacks the newest frame is the whole observation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tensor_optix.core.argument_checks import whole_number

if TYPE_CHECKING:
    from tensor_optix.core.types import Array

_MOST_SLOTS = 2**31 - 1
_MOST_STEPS = 2**16 - 1
_DEEPEST_STACK = 8


@dataclass(frozen=True)
class RowFormat:
    """Dtype and shape `[...]` of one row of a field."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, rows: Array) -> RowFormat:
        """Return the format of the rows of an array `[B, ...]`."""
        return cls(rows.dtype, rows.shape[1:])

    @property
    def nbytes(self) -> int:
        """The bytes of a row."""
        return self.dtype.itemsize * math.prod(self.shape)

    def empty(self, count: int) -> Array:
        """Return an array of `count` rows that are yet to be written."""
        return np.empty((count, *self.shape), self.dtype)

    def rows(self, name: str, value: Any, count: int) -> Array:
        """Return `count` rows as a C-contiguous array of this format.

        An array must have the dtype; numbers and lists are converted.

        Raises:
            ValueError: If dtype or shape are others; the message names both.
        """
        array = np.asarray(value)
        if array.dtype != self.dtype:
            is_array = isinstance(value, np.ndarray | np.generic)
            if is_array or not np.can_cast(array.dtype, self.dtype, "same_kind"):
                raise ValueError(
                    f"{name} must be {self.dtype} as the first rows were, got {array.dtype}: "
                    f"convert them with astype"
                )
            array = array.astype(self.dtype)
        if array.shape != (count, *self.shape):
            raise ValueError(f"{name} must have shape {(count, *self.shape)}, got {array.shape}")
        return np.ascontiguousarray(array)


@dataclass(frozen=True)
class ReplayLayout:
    """How the rows of all environments lie in memory.

    Attributes:
        num_envs: Rings, one per environment.
        rows: The rows of each environment that can be sampled.
        n_step: The rewards that a row sums up.
        frames: The depth of the frame stack, 1 if observations are none.
        observation: Of one environment.
        action: Of one environment.
    """

    num_envs: int
    rows: int
    n_step: int
    frames: int
    observation: RowFormat
    action: RowFormat

    @property
    def slots(self) -> int:
        """Slots per environment.

        Besides the rows: the rows that wait for rewards, the observation that follows them, and
        those whose frames the oldest row still shows.
        """
        return self.rows + self.n_step + self.frames - 1

    @property
    def num_slots(self) -> int:
        """Slots of all environments."""
        return self.num_envs * self.slots

    @property
    def frame_bytes(self) -> int:
        """The bytes of one frame."""
        return self.observation.nbytes // self.frames

    @property
    def ring_bytes(self) -> int:
        """The bytes of all slots."""
        return self.num_slots * self.slot.itemsize

    @cached_property
    def slot(self) -> np.dtype[Any]:
        """The structured dtype of a slot."""
        shape = self.observation.shape[1:] if self.frames > 1 else self.observation.shape
        action_at = self.frame_bytes
        reward_at = -(-(action_at + self.action.nbytes) // 4) * 4
        fields: list[tuple[str, Any, int]] = [
            ("frame", (self.observation.dtype, shape), 0),
            ("action", (self.action.dtype, self.action.shape), action_at),
            ("reward", np.float32, reward_at),
            ("next", (np.int32, (self.frames,)), reward_at + 4),
        ]
        end = reward_at + 4 + 4 * self.frames
        if self.frames > 1:
            fields.append(("stack", (np.int32, (self.frames,)), end))
            end += 4 * self.frames
        fields += [("n_steps", np.uint16, end), ("flags", np.uint16, end + 2)]
        names, formats, offsets = (list(column) for column in zip(*fields, strict=True))
        return np.dtype(
            {"names": names, "formats": formats, "offsets": offsets, "itemsize": end + 4}
        )

    @cached_property
    def numbers(self) -> Array:
        """`[9]` int64, the layout as the kernels take it."""
        offsets = [self.slot.fields[name][1] for name in ("action", "reward")]  # type: ignore[index]
        sizes = [self.num_envs, self.slots, self.rows, self.n_step, self.frames]
        return np.array([*sizes, self.frame_bytes, self.action.nbytes, *offsets], np.int64)


@dataclass(frozen=True)
class ReplaySettings:
    """What was asked for.

    Attributes:
        capacity: Rows of all environments.
        n_step: The rewards that a row sums up.
        num_envs: Environments; None for as many as the first rows come from.
        frame_stack: The depth of a stack of frames; None to find out.

    Raises:
        ValueError: If a number is out of range.
    """

    capacity: int
    n_step: int
    num_envs: int | None
    frame_stack: int | None

    def __post_init__(self) -> None:
        most = {"capacity": _MOST_SLOTS, "n_step": _MOST_STEPS, "frame_stack": _MOST_STEPS}
        for name in ("capacity", "n_step", "num_envs", "frame_stack"):
            value = getattr(self, name)
            if value is not None or name in ("capacity", "n_step"):
                count = whole_number(name, value, 1, most.get(name, self.capacity))
                object.__setattr__(self, name, count)  # 1e6 is a whole number, but no length

    def layout(self, rows: tuple[Any, ...], env_ids: Any) -> ReplayLayout:
        """Return the layout that the first rows ask for.

        Args:
            rows: Observations, actions, rewards and next observations, with others after them.
            env_ids: Whose rows they are, None if of all environments.

        Raises:
            ValueError: If they do not fit the settings.
        """
        observations, actions, rewards, next_observations = rows[:4]
        if self.num_envs is None and env_ids is not None:
            raise ValueError("num_envs must be given to the buffer where env_ids are, got None")
        if not len(rewards):
            raise ValueError("the first rows must say what rows look like, got none")
        num_envs = self.num_envs or len(rewards)
        whole_number("the number of first rows", num_envs, 1, self.capacity)
        first, action = _array("observations", observations), _array("actions", actions)
        frames = self.frame_stack or _stack_depth(first, np.asarray(next_observations))
        if frames > 1 and first.shape[1:2] != (frames,):
            raise ValueError(
                f"observations must have shape [B, {frames}, ...] as frame_stack is {frames}, got "
                f"{first.shape}"
            )
        share = self.capacity // num_envs
        formats = (RowFormat.of(first), RowFormat.of(action))
        layout = ReplayLayout(num_envs, share, self.n_step, frames, *formats)
        name = "capacity, with all environments' slots,"
        whole_number(name, layout.num_slots, 1, _MOST_SLOTS)
        return layout

    def check(self, layout: ReplayLayout) -> None:
        """Raise ValueError unless a layout is one that these settings can lead to."""
        num_envs, frames = self.num_envs or layout.num_envs, self.frame_stack or layout.frames
        expected = (num_envs, self.capacity // num_envs, self.n_step, frames)
        got = (layout.num_envs, layout.rows, layout.n_step, layout.frames)
        if got != expected:
            raise ValueError(
                "the state must be that of a buffer with (num_envs, rows of each, n_step, frames) "
                f"{expected}, got {got}"
            )


def _array(name: str, value: Any) -> Array:
    array = np.asarray(value)
    if array.ndim == 0 or array.dtype.hasobject:
        raise ValueError(
            f"{name} must be numbers, one row per environment, got {array.dtype} with shape "
            f"{array.shape}"
        )
    return array


def _stack_depth(observations: Array, next_observations: Array) -> int:
    """Return how many frames an observation stacks, 1 if it is no stack.

    A stack is what uint8 observations `[B, K, H, W]`, K of 2 to 8, look like if every one of them is
    the one before with the oldest frame dropped and a new one appended.
    """
    shape = observations.shape
    plausible = observations.dtype == np.uint8 and len(shape) == 4 and shape[0] > 0
    if not plausible or not 2 <= shape[1] <= _DEEPEST_STACK:
        return 1
    shifted = np.array_equal(next_observations[:, :-1], observations[:, 1:])
    return int(shape[1]) if shifted else 1


Rows: TypeAlias = "tuple[Array, Array, Array, Array, Array, Array]"
"""Observations, actions, rewards, next observations, terminated and truncated of B transitions."""

_BOOL = np.dtype(np.bool_)
_FLOAT32 = np.dtype(np.float32)


def clean_rows(layout: ReplayLayout, rows: Rows, count: int, every: bool) -> Rows:
    """Return the fields of `count` transitions as C-contiguous arrays.

    Args:
        layout: What observations and actions look like.
        rows: Observations, actions, rewards, next observations, terminated and truncated.
        count: How many there must be of each.
        every: Whether that must be one for each environment.

    Raises:
        ValueError: If a field has another dtype or shape.
    """
    if every and count != layout.num_envs:
        raise ValueError(
            f"rewards must be one of each of the {layout.num_envs} environments, got {count}: say "
            "with env_ids whose they are"
        )
    observations, actions, rewards, next_observations, terminated, truncated = rows
    return (
        layout.observation.rows("observations", observations, count),
        layout.action.rows("actions", actions, count),
        column_of("rewards", rewards, count),
        layout.observation.rows("next_observations", next_observations, count),
        column_of("terminated", terminated, count, _BOOL),
        column_of("truncated", truncated, count, _BOOL),
    )


def signature_of(rows: Rows) -> tuple[Any, ...] | None:
    """Return dtypes and shapes that tell clean rows from others, None if a field is no array.

    Flags are left out: the kernel takes no others than masks, and looks itself.
    """
    o, a, r, n, _, _ = rows
    try:
        return (o.dtype, a.dtype, r.dtype, n.dtype, o.shape, a.shape, n.shape)
    except AttributeError:
        return None


def count_of(name: str, value: Any) -> int:
    """Return how many rows a field has; ValueError for a single value."""
    shape = np.shape(value)
    if not shape:
        raise ValueError(f"{name} must have shape [B], got a single value: push takes one row")
    return int(shape[0])


def column_of(name: str, value: Any, count: int, dtype: np.dtype[Any] = _FLOAT32) -> Array:
    """Return `count` values as a C-contiguous array; what float32 cannot hold becomes infinite."""
    if type(value) is not np.ndarray or value.dtype is not dtype:
        with np.errstate(over="ignore"):
            value = np.asarray(value, dtype)
    if value.shape != (count,):
        raise ValueError(f"{name} must have shape {(count,)}, got {value.shape}")
    return value if value.flags.c_contiguous else np.ascontiguousarray(value)


def integers_of(name: str, value: Any, count: int) -> Array:
    """Return `count` integers, such as the environments that rows belong to, as int64."""
    array = np.asarray(value)
    if array.shape != (count,) or not (array.dtype.kind in "iu" or count == 0):
        raise ValueError(
            f"{name} must be integers with shape {(count,)}, got {array.dtype} {array.shape}"
        )
    return np.ascontiguousarray(array, np.int64)


def one_row(value: Any) -> Any:
    """Return a single observation or action as a batch of one."""
    if type(value) is np.ndarray:
        return value[np.newaxis]
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)[np.newaxis]
    return [value]
