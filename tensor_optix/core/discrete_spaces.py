"""Discrete spaces as rows of choices: a space comes in, how many there are of each choice goes out.

A Discrete is one choice, a MultiDiscrete one for each of its numbers, a MultiBinary one of two for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete

if TYPE_CHECKING:
    from tensor_optix.core.types import Array

DiscreteSpace: TypeAlias = Discrete | MultiDiscrete | MultiBinary


def choice_counts(space: DiscreteSpace) -> tuple[int, ...]:
    """Return among how many numbers, or actions, each of the K choices is, row-major."""
    if isinstance(space, MultiBinary):
        return (2,) * int(np.prod(space.shape, dtype=np.int64))
    counts = space.n if isinstance(space, Discrete) else space.nvec
    return tuple(int(count) for count in np.ravel(counts))


def first_choices(space: DiscreteSpace) -> Array:
    """Return the first number of each choice, `[K]` int64."""
    if isinstance(space, MultiBinary):
        return np.zeros(int(np.prod(space.shape, dtype=np.int64)), np.int64)
    return np.ravel(np.asarray(space.start, np.int64))


def has_many_choices(space: Any) -> bool:
    """Whether an action is a row of choices, and not one alone."""
    return isinstance(space, MultiDiscrete | MultiBinary)
