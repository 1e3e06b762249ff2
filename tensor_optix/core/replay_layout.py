"""What a replay row looks like: the first rows come in, sizes and the dtype of a slot go out.

A slot holds the newest frame of an observation, an action, and a head (see `kernels/replay.hpp`).
Without frame stacks the newest frame is the whole observation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tensor_optix.core.types import Array

MOST_SLOTS = 2**31 - 1
MOST_STEPS = 2**16 - 1
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
        shape = (count, *self.shape)
        if type(value) is np.ndarray and value.dtype is self.dtype and value.shape == shape:
            return value if value.flags.c_contiguous else np.ascontiguousarray(value)
        array = np.asarray(value)
        plain = not isinstance(value, np.ndarray) and not isinstance(value, np.generic)
        if array.dtype != self.dtype:
            if not plain or not np.can_cast(array.dtype, self.dtype, "same_kind"):
                raise ValueError(
                    f"{name} must be {self.dtype} as the first rows were, got {array.dtype}: "
                    f"convert them with astype"
                )
            array = array.astype(self.dtype)
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
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

    @property
    def ring_bytes(self) -> int:
        """The bytes of all slots."""
        return self.num_slots * self.slot.itemsize


def stack_depth(observations: Array, next_observations: Array) -> int:
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
