"""The door for observations: whatever an environment shows comes in, an array that fits its space goes out.

What does not fit is refused in one line that names the environment; nothing is rounded, wrapped or broadcast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, MultiBinary, MultiDiscrete, Space

if TYPE_CHECKING:
    from tensor_optix.core.types import Array

FITTING_KINDS = {"f": "fiub", "i": "iub", "u": "iub", "b": "iub"}
"""Kinds of dtypes (float, int, unsigned, bool) that an observation may come in, by that of its space."""


class ObservationDoor:
    """Takes in elements of one space, whose elements are arrays.

    Numbers outside a Discrete, a MultiDiscrete or a MultiBinary are refused, as they mean nothing. Those
    outside the bounds of a Box pass: many an environment leaves them by a little.

    Args:
        space: A Box, Discrete, MultiDiscrete or MultiBinary.
        part: What messages call it, if it is one part of several.
    """

    def __init__(self, space: Space[Any], part: str = "") -> None:
        self._space = space
        self._of_part = f" (part {part})" if part else ""
        self._shape: tuple[int, ...] = space.shape or ()
        self._dtype = np.dtype(space.dtype)
        self._limits = None if isinstance(space, Box) else limits(space)

    def __call__(self, value: Any, who: str, count: int | None = None) -> Array:
        """Return an element, or several, as an array of the space's dtype.

        Args:
            value: What an environment gave.
            who: The environment and its method, for messages.
            count: None for one element, N for several, in the shape `[N, ...]`.

        Raises:
            TypeError: If it is not made of numbers, or of floats where the space has integers.
            ValueError: If it has another shape, or holds numbers that are not in the space, or that its
                dtype cannot hold.
        """
        shape = self._shape if count is None else (count, *self._shape)
        if not (
            value.__class__ is np.ndarray and value.dtype == self._dtype and value.shape == shape
        ):
            value = fitting(value, shape, self._dtype, who + self._of_part)
        if self._limits is not None:
            self._require_within(value, who, count is not None)
        kept: Array = value
        return kept

    def _require_within(self, values: Array, who: str, are_several: bool) -> None:
        assert self._limits is not None
        low, high = self._limits
        if values.ndim == 0:  # numbers of Python compare in a fraction of the time
            is_within: Any = low.item() <= values.item() <= high.item()
        else:
            is_within = (values >= low) & (values <= high)
        if is_within is not True and np.count_nonzero(is_within) != values.size:
            self._refuse(values, ~np.asarray(is_within), are_several, who)

    def _refuse(self, values: Array, is_outside: Array, are_several: bool, who: str) -> None:
        first = np.argwhere(is_outside)[0].tolist()
        env_id, element = first[:are_several], ", ".join(map(str, first[are_several:]))
        where = f" in element {element}" if element else ""
        of = f" from environment {env_id[0]}" if env_id else ""
        space = " ".join(str(self._space).split())
        raise ValueError(
            f"{who}{self._of_part} must return observations within the observation space {space}, got "
            f"{values[tuple(first)]}{where}{of}: correct them, or change the space"
        )


def limits(space: Space[Any]) -> tuple[Array, Array]:
    """Return the least and the largest numbers of a space's elements, in their shape and dtype."""
    if isinstance(space, Box):
        return space.low, space.high
    shape, dtype = space.shape or (), np.dtype(space.dtype)
    if isinstance(space, MultiBinary):
        return np.zeros(shape, dtype), np.ones(shape, dtype)
    discrete: Any = space
    counts = space.nvec if isinstance(space, MultiDiscrete) else discrete.n
    start = np.asarray(discrete.start, np.int64)
    return start.astype(dtype), (start + np.asarray(counts, np.int64) - 1).astype(dtype)


def fitting(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any], who: str) -> Array:
    """Return an observation as an array of a shape and a dtype; it is never rounded, wrapped or broadcast.

    Args:
        value: What an environment gave.
        shape: The one wanted.
        dtype: The one wanted.
        who: The environment and its method, for the message.

    Raises:
        TypeError: If it is not made of numbers, or of floats where the space has integers.
        ValueError: If it has another shape, or numbers that the dtype cannot hold.
    """
    given = as_array(value)
    if given is None or given.dtype.kind not in FITTING_KINDS.get(dtype.kind, dtype.kind):
        raise TypeError(
            f"{who} must return observations of {dtype}, as in the observation space, got "
            f"{described(value)}: convert them, or change the space's dtype"
        )
    if given.shape != shape:
        raise ValueError(
            f"{who} must return observations of the shape {shape} of the observation space, got "
            f"{given.shape}: reshape them, or change the space"
        )
    if given.dtype == dtype:
        return given
    if np.can_cast(given.dtype, dtype):
        return given.astype(dtype)
    try:
        with np.errstate(over="raise"):
            kept = given.astype(dtype)
        is_kept = dtype.kind == "f" or np.array_equal(kept, given)
    except FloatingPointError:
        is_kept = False
    if not is_kept:
        raise ValueError(
            f"{who} must return observations within {dtype}, as in the observation space, got "
            f"numbers from {given.min()} to {given.max()}: correct them, or give the space a larger dtype"
        )
    return kept


def as_array(value: Any) -> Array | None:
    """Return a value as an array; None where it has rows of different lengths."""
    try:
        return np.asarray(value)
    except ValueError:
        return None


def described(value: Any) -> str:
    """Return in a few words what a value is."""
    if value is None:
        return "None"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} with the shape {value.shape}"
    return f"the {type(value).__name__} {value!r}"[:80]
