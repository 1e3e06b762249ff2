"""The box that a tuner searches: hyperparameters go in, a point of the unit cube comes out.

A parameter on a logarithmic scale moves by factors, any other by differences. Whole numbers stay
whole. What is not a number, or has no bounds, passes through untouched.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tensor_optix.core.types import Array


class SearchSpace:
    """Bounds of hyperparameters, and the map between them and the unit cube.

    Which parameters take part depends on the parameters at hand: those that have bounds and are
    numbers, but not bools. `names_in` lists them; it is the order of every point `[D]`.

    Args:
        bounds: `{name: (lowest, highest)}`.
        log_params: Names that are searched on a logarithmic scale; others are ignored.

    Raises:
        TypeError: If `log_params` is a single name.
        ValueError: If bounds are not finite, not ascending, or not positive on a logarithmic scale.
    """

    def __init__(
        self, bounds: Mapping[str, tuple[float, float]], log_params: Iterable[str] = ()
    ) -> None:
        if isinstance(log_params, str):
            raise TypeError(f"log_params must be a list of names, got {log_params!r}")
        self._bounds = {name: (float(low), float(high)) for name, (low, high) in bounds.items()}
        self.log_params = frozenset(log_params) & self._bounds.keys()
        """The names that are searched on a logarithmic scale."""
        for name, (low, high) in self._bounds.items():
            # The difference of two finite floats can overflow.
            if not (low < high and math.isfinite(high - low)):
                raise ValueError(
                    f"bounds of {name!r} must be two finite numbers, the lower first, "
                    f"got ({low}, {high})"
                )
            if name in self.log_params and low <= 0:
                raise ValueError(
                    f"bounds of {name!r} must be above 0 on a logarithmic scale, got ({low}, "
                    f"{high}); raise the lower bound or take the name out of log_params"
                )

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """A copy of the bounds."""
        return dict(self._bounds)

    def names_in(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names with bounds and a numeric value in `params`, in the bounds' order."""
        return tuple(name for name in self._bounds if name in params and is_number(params[name]))

    def to_unit(self, params: Mapping[str, Any]) -> Array:
        """Return the point `[D]` float64 in [0, 1] of the parameters, clipped into the bounds.

        Raises:
            ValueError: If one of them is NaN or infinite.
        """
        values = [self._to_unit(name, params[name]) for name in self.names_in(params)]
        return np.array(values, np.float64)

    def from_unit(self, point: Array, like: Mapping[str, Any]) -> dict[str, Any]:
        """Return `like` with the values of a point.

        Args:
            point: `[D]`, one coordinate for each of `names_in(like)`, clipped into [0, 1].
            like: The parameters to start from; where it holds an int, an int comes back.

        Raises:
            ValueError: If the point has the wrong length or holds NaN, or if no whole number lies
                within an integer's bounds.
        """
        names = self.names_in(like)
        coordinates = np.asarray(point, np.float64)
        if coordinates.shape != (len(names),) or np.isnan(coordinates).any():
            raise ValueError(
                f"point must be {len(names)} numbers, one for each of {names}, got {coordinates}"
            )
        params = dict(like)
        for name, coordinate in zip(names, np.clip(coordinates, 0.0, 1.0).tolist(), strict=True):
            params[name] = self._into_bounds(name, self._from_unit(name, coordinate), like[name])
        return params

    def clip(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return `params` with every numeric value that has bounds moved into them.

        Raises:
            ValueError: If such a value is NaN, or no whole number lies within an integer's bounds.
        """
        clipped = dict(params)
        for name in self.names_in(params):
            if math.isnan(params[name]):
                raise ValueError(f"{name!r} must be a number, got nan")
            clipped[name] = self._into_bounds(name, params[name], params[name])
        return clipped

    def _to_unit(self, name: str, value: Any) -> float:
        if not math.isfinite(value):
            raise ValueError(f"{name!r} must be finite, got {value}")
        low, high = self._bounds[name]
        inside = min(max(float(value), low), high)
        if name in self.log_params:
            low, high, inside = math.log(low), math.log(high), math.log(inside)
        return (inside - low) / (high - low)

    def _from_unit(self, name: str, coordinate: float) -> float:
        low, high = self._bounds[name]
        if name not in self.log_params:
            return low * (1.0 - coordinate) + high * coordinate
        exponent = math.log(low) * (1.0 - coordinate) + math.log(high) * coordinate
        # Rounding may carry the sum just over the edge, where the largest floats overflow.
        return math.exp(min(exponent, math.log(high)))

    def _into_bounds(self, name: str, value: float, like: Any) -> float | int:
        low, high = self._bounds[name]
        if not is_integer(like):
            return min(max(float(value), low), high)
        lowest, highest = math.ceil(low), math.floor(high)
        if lowest > highest:
            raise ValueError(
                f"bounds of {name!r} must hold a whole number, as its value {like} is one, "
                f"got ({low}, {high})"
            )
        return round(min(max(value, lowest), highest))


def is_integer(value: Any) -> bool:
    """Whether a hyperparameter is a whole number, and has to stay one."""
    return isinstance(value, int | np.integer)


def is_number(value: Any) -> bool:
    """Whether a hyperparameter is a number. A bool is none."""
    if isinstance(value, bool | np.bool_):
        return False
    return isinstance(value, int | float | np.integer | np.floating)
