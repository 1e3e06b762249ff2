"""A correction of one hyperparameter: a value comes in, the corrected one goes out, and can be undone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Mapping

_FARTHEST = 100.0
_RECOVERED = 0.01
_ROUNDING = 1e-6
"""A framework may keep a rate in single precision."""


class Correction:
    """A factor upon one hyperparameter, and what it was and became when it was last applied.

    Args:
        name: Of the hyperparameter.
        step: The factor that an alarm adds.
        bounds: That a correction must not leave; None: there are none.
    """

    def __init__(self, name: str, step: float, bounds: tuple[float, float] | None) -> None:
        self._name = name
        self._step = step
        self._bounds = bounds or (0.0, math.inf)
        self._start: float | None = None
        self.forget()

    def forget(self) -> None:
        """Correct nothing. The first value ever seen is not forgotten."""
        self.factor = 1.0
        self._asked: Any = None
        self._given: float | None = None
        self._before = 0.0

    def undo(self, params: dict[str, Any]) -> None:
        """Put back what was asked for, if the value at hand is what the correction made of it."""
        if self._recognises(params.get(self._name)):
            params[self._name] = self._asked

    def read(self, params: Mapping[str, Any]) -> None:
        """Take note of the value in force; one that someone else has set ends the correction."""
        value = params.get(self._name)
        if self._given is not None and not self._recognises(value):
            self.forget()
        if is_positive(value):
            self._before = float(value)
            self._start = self._before if self._start is None else self._start

    def recover(self) -> None:
        """Go halfway back, as powers of the factor go."""
        self.factor = math.sqrt(self.factor)
        if abs(self.factor - 1.0) < _RECOVERED:
            self.factor = 1.0

    def intensify(self, params: Mapping[str, Any]) -> bool:
        """Correct by one step more; return whether there is room for it."""
        value, factor = params.get(self._name), self.factor
        if is_positive(value):
            self.factor = self._within(value, factor * self._step) / value
        return self.factor != factor

    def apply(self, params: dict[str, Any]) -> None:
        """Correct the value that the inner optimizer asks for."""
        self._asked, self._given = params.get(self._name), None
        if self.factor != 1.0 and is_positive(self._asked):
            self._given = params[self._name] = self._within(self._asked, self.factor)

    def _within(self, value: float, factor: float) -> float:
        """Return value times factor, as far as there is room; never beyond value the other way."""
        start = value if self._start is None else self._start
        low, high = self._bounds
        if factor < 1.0:
            return max(value * factor, min(value, max(low, start / _FARTHEST)))
        return min(value * factor, max(value, min(high, start * _FARTHEST)))

    def _recognises(self, value: Any) -> bool:
        """Whether an agent made this value of the one given: it may clip, or stay where it was."""
        if self._given is None or not is_positive(value):
            return False
        low, high = sorted((self._before, self._given))
        return low * (1.0 - _ROUNDING) <= value <= high * (1.0 + _ROUNDING)


def is_positive(value: Any) -> TypeGuard[float]:
    """Whether a hyperparameter is a finite number above 0, and so can be multiplied."""
    try:
        return not isinstance(value, bool) and 0.0 < float(value) < math.inf
    except (TypeError, ValueError):
        return False
