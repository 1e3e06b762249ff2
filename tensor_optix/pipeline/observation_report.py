"""What a user is told of observations: environments and a first window come in, warnings go out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from gymnasium.spaces import Box

from tensor_optix.core.observation_layout import ALONE, layout_of
from tensor_optix.core.observation_values import limits

if TYPE_CHECKING:
    from tensor_optix.core.types import Array, EpisodeData
    from tensor_optix.pipeline.vector_contract import VectorEnv

logger = logging.getLogger(__name__)

ROUNDING = 1e-5
"""How far beyond a bound a float may lie, relative to it, and be taken for rounded."""


class ObservationReport:
    """Says each thing once, however often pipelines that share it begin."""

    def __init__(self) -> None:
        self._has_said_parts = False
        self._has_looked = False

    def parts(self, env: VectorEnv) -> None:
        """Say which parts of the environments' observations an agent does not get to see.

        Args:
            env: The environments as the agent sees them.
        """
        left_out = env.observation_layout.left_out
        if self._has_said_parts or not left_out or not isinstance(env.observation_space, Box):
            return
        self._has_said_parts = True
        logger.warning(
            "%s: the agent does not see these parts of the observations, which are no numbers of a fixed "
            "count: %s. gymnasium.wrappers.TransformObservation can make numbers of them",
            env.title,
            ", ".join(left_out),
        )

    def bounds(self, env: VectorEnv, window: EpisodeData) -> None:
        """Look through the first window for a number outside the bounds of its Box, and name the first.

        Args:
            env: The environments as the agent sees them.
            window: What they showed.
        """
        space = env.observation_space
        if self._has_looked or not isinstance(space, Box):
            return
        self._has_looked = True
        shown = window.observations if window.valid is None else window.observations[window.valid]
        for rows in (shown, window.end_observations):
            if rows is None or not len(rows):
                continue
            found = first_outside(rows.reshape(len(rows), -1), space)
            if found is not None:
                logger.warning(
                    "%s: observations leave the bounds of their space, %s. They are taken as they are: "
                    "widen the bounds if this is meant",
                    env.title,
                    found,
                )
                return


def first_outside(rows: Array, space: Box) -> str | None:
    """Return in words the first number of rows `[M, D]` outside the bounds; None where there is none."""
    low, high = (np.ravel(end) for end in limits(space))
    if low.dtype.kind in "iub" and _are_all(low, high):
        return None
    lowest, highest = low.astype(np.float64), high.astype(np.float64)
    if low.dtype.kind == "f":
        with np.errstate(over="ignore"):
            lowest -= ROUNDING * np.maximum(1.0, np.abs(lowest))
            highest += ROUNDING * np.maximum(1.0, np.abs(highest))
    is_outside = (rows < lowest) | (rows > highest)
    if not np.count_nonzero(is_outside):
        return None
    row, column = np.unravel_index(np.argmax(is_outside), is_outside.shape)
    return f"{place_of(space, int(column))} is {rows[row, column]}, outside [{low[column]}, {high[column]}]"


def _are_all(low: Array, high: Array) -> bool:
    """Whether the bounds let pass every number of their dtype."""
    if low.dtype.kind == "b":
        return True
    least, most = np.iinfo(low.dtype).min, np.iinfo(low.dtype).max
    return bool((low == least).all() and (high == most).all())


def place_of(space: Box, column: int) -> str:
    """Return which element of which part lies in a column."""
    field = next(one for one in layout_of(space).fields if column < one.columns.stop)
    index = ", ".join(
        str(int(axis)) for axis in np.unravel_index(column - field.first, field.shape)
    )
    part = "the observation" if field.name == ALONE else field.name
    return f"element {index} of {part}" if index else part
