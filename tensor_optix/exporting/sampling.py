"""Observations to try policies on: spaces come in, elements of them go out, the extreme ones first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Dict, Tuple

from tensor_optix.core.observation_values import limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array

WIDE = 1e6
"""Bounds further apart than that say nothing of what comes between them."""
FAR = 12.0
"""Standard deviations from the mean of the furthest observations where there are no bounds."""


def nested(space: AnySpace, path: tuple[Any, ...], parts: Mapping[tuple[Any, ...], Array]) -> Any:
    """Return the parts, by the paths to them, as deep in each other as the space is."""
    if isinstance(space, Dict):
        return {key: nested(one, (*path, key), parts) for key, one in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(nested(one, (*path, n), parts) for n, one in enumerate(space.spaces))
    return parts.get(path)


def elements(
    rng: np.random.Generator, space: Any, around: tuple[Array, Array], count: int
) -> Array:
    """Return elements `[count, ...]` of a space: its ends, others between them, others around a mean.

    Args:
        rng: Draws.
        space: Of arrays.
        around: `[D]`, the mean and the standard deviation; where there are no bounds to speak of, all
            are around it.
        count: Of one only the lower end is there.
    """
    shape, dtype = tuple(space.shape or ()), np.dtype(space.dtype)
    low, high = limits(space)
    if not isinstance(space, Box):
        chosen = rng.integers(low, high, (count, *shape), endpoint=True)
        chosen[:1], chosen[1:2] = low, high
        return np.asarray(chosen, dtype)
    low, high = (end.astype(np.float64).reshape(-1) for end in (low, high))
    mean, deviation = around
    with np.errstate(over="ignore", invalid="ignore"):
        is_open = ~(high - low <= WIDE)
    least = np.where(is_open, mean - FAR * deviation, low)
    most = np.where(is_open, mean + FAR * deviation, high)
    drawn = mean + deviation * rng.standard_normal((count, len(mean)))
    drawn[::2] = np.where(is_open, drawn[::2], rng.uniform(least, most, drawn[::2].shape))
    drawn[:1], drawn[1:2] = least, most
    drawn = np.clip(drawn, low, high)
    if dtype.kind in "iub":
        drawn = np.rint(drawn)
    return np.asarray(drawn, dtype).reshape(count, *shape)
