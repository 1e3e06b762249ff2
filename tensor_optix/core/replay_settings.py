"""The settings of a replay buffer: numbers come in, the layout of its rows goes out.

The layout is known when the first rows are.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensor_optix.core.replay_layout import (
    MOST_SLOTS,
    MOST_STEPS,
    ReplayLayout,
    RowFormat,
    stack_depth,
)


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
        most = {"capacity": MOST_SLOTS, "n_step": MOST_STEPS, "frame_stack": MOST_STEPS}
        for name in ("capacity", "n_step", "num_envs", "frame_stack"):
            value = getattr(self, name)
            if value is not None or name in ("capacity", "n_step"):
                count = _checked_count(name, value, most.get(name, self.capacity))
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
        _checked_count("the number of first rows", num_envs, self.capacity)
        first, action = _rows("observations", observations), _rows("actions", actions)
        frames = self.frame_stack or stack_depth(first, np.asarray(next_observations))
        if frames > 1 and first.shape[1:2] != (frames,):
            raise ValueError(
                f"observations must have shape [B, {frames}, ...] as frame_stack is {frames}, got "
                f"{first.shape}"
            )
        share = self.capacity // num_envs
        formats = (RowFormat.of(first), RowFormat.of(action))
        layout = ReplayLayout(num_envs, share, self.n_step, frames, *formats)
        _checked_count("capacity, with all environments' slots,", layout.num_slots, MOST_SLOTS)
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


def unit_number(name: str, value: float) -> float:
    """Return a number in [0, 1]; ValueError for others."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {value}")
    return float(value)


def _checked_count(name: str, value: float, most: int) -> int:
    if not isinstance(value, numbers.Real) or not 1 <= value <= most or value != int(value):
        raise ValueError(f"{name} must be a whole number in [1, {most}], got {value!r}")
    return int(value)


def _rows(name: str, value: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    if array.ndim == 0 or array.dtype.hasobject:
        raise ValueError(
            f"{name} must be numbers, one row per environment, got {array.dtype} with shape "
            f"{array.shape}"
        )
    return array
