"""The hyperparameters that an optimizer stands on, what it asked for last, and what came of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tensor_optix.core.search_space import SearchSpace
    from tensor_optix.core.types import Array

logger = logging.getLogger(__name__)

_ROUNDING = 1e-9


class AcceptedBase:
    """Keeps the tuned hyperparameters that were accepted, exactly as they were in force.

    Args:
        space: Where they may lie. Everything asked for lies there.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._warned: set[tuple[str, float]] = set()
        self.forget()

    def forget(self) -> None:
        """Have no base: whatever is adopted next."""
        self._values: dict[str, Any] = {}
        self._before: dict[str, Any] = {}
        self.asked: dict[str, Any] = {}
        """The tuned hyperparameters last asked for."""

    @property
    def is_left(self) -> bool:
        """Whether others than the base were asked for last."""
        return self.asked != self._values

    @property
    def values(self) -> dict[str, Any]:
        """A copy of the base."""
        return dict(self._values)

    @property
    def point(self) -> Array:
        """The base as a point `[D]` of the unit cube."""
        return self._space.to_unit(self._values)

    def smallest_steps(self) -> Array:
        """Return `[D]`: how far the next whole number is, for integers; 0 for others."""
        steps = np.zeros(len(self._values))
        for i, (name, value) in enumerate(self._values.items()):
            if isinstance(value, int | np.integer):
                low, here, high = (self._space.to_unit({name: value + by})[0] for by in (-1, 0, 1))
                steps[i] = max(here - low, high - here)
        return steps

    def at(self, point: Array | None) -> dict[str, Any]:
        """Return the values at a point `[D]` of the unit cube, clipped into it; the base for None."""
        return dict(self._values) if point is None else self._space.from_unit(point, self._values)

    def is_at(self, point: Array) -> bool:
        """Whether the base has these very values, as it may for integers, and at bounds."""
        return self.at(point) == self._values

    def recognises(self, values: dict[str, Any]) -> bool:
        """Whether the values in force are what the agent made of those asked for.

        An agent may clip or round, and then ends up no farther from the asked value than the old one
        was. Anything else was changed by someone else.
        """
        if values.keys() != self.asked.keys():
            return False
        asked, before = self._space.to_unit(self.asked), self._space.to_unit(self._before)
        off = np.abs(self._space.to_unit(values) - asked)
        return bool(np.all(off <= np.abs(before - asked) + _ROUNDING))

    def read(self, values: dict[str, Any]) -> None:
        """Take note of the values in force, which are those asked for as the agent took them."""
        if not self.is_left and self._space.clip(values) == values:
            self._values = self.asked = dict(values)
        self._before = dict(values)

    def accept(self, values: dict[str, Any]) -> None:
        """Make values that were in force the base."""
        self._values = self._space.clip(values)

    def adopt(self, values: dict[str, Any]) -> None:
        """Make the values in force the base, moved into the bounds with a warning, and ask for it."""
        self.accept(values)
        self._before, self.asked = dict(values), dict(self._values)
        for name, value in self._values.items():
            if value == values[name] or (name, value) in self._warned:
                continue
            self._warned.add((name, value))
            bounds = self._space.bounds[name]
            logger.warning("%s = %s is not within %s: set to %s", name, values[name], bounds, value)
