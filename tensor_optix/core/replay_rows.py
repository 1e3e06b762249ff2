"""What callers hand to a replay buffer: anything like an array comes in, clean arrays go out.

Errors name the argument, what it must be and what came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from tensor_optix.core.replay_layout import ReplayLayout
    from tensor_optix.core.types import Array

Rows: TypeAlias = "tuple[Array, Array, Array, Array, Array, Array]"
"""Observations, actions, rewards, next observations, terminated and truncated of B transitions."""

_BOOL = np.dtype(np.bool_)
_FLOAT32 = np.dtype(np.float32)


def count_of(name: str, value: Any) -> int:
    """Return how many rows a field has; ValueError for a single value."""
    shape = np.shape(value)
    if not shape:
        raise ValueError(f"{name} must have shape [B], got a single value: push takes one row")
    return int(shape[0])


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
        floats_of("rewards", rewards, count),
        layout.observation.rows("next_observations", next_observations, count),
        flags_of("terminated", terminated, count),
        flags_of("truncated", truncated, count),
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


def floats_of(name: str, value: Any, count: int) -> Array:
    """Return `count` numbers as float32; what float32 cannot hold becomes infinite."""
    if type(value) is np.ndarray and value.dtype is _FLOAT32 and value.shape == (count,):
        return value if value.flags.c_contiguous else np.ascontiguousarray(value)
    with np.errstate(over="ignore"):
        array = np.asarray(value, np.float32)
    if array.shape != (count,):
        raise ValueError(f"{name} must have shape {(count,)}, got {array.shape}")
    return np.ascontiguousarray(array)


def flags_of(name: str, value: Any, count: int) -> Array:
    """Return `count` booleans."""
    if type(value) is np.ndarray and value.dtype is _BOOL and value.shape == (count,):
        return value if value.flags.c_contiguous else np.ascontiguousarray(value)
    array = np.asarray(value, np.bool_)
    if array.shape != (count,):
        raise ValueError(f"{name} must have shape {(count,)}, got {array.shape}")
    return np.ascontiguousarray(array)


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
