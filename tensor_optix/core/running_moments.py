"""Running mean and variance: rows go in one by one or in batches, normalised rows come out.

Batches are merged (Chan, Golub, LeVeque 1983) in float64, so that neither their order, their size
nor a large common offset matters. A row with a NaN or infinite entry never enters the statistics.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from tensor_optix import kernels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import ArrayLike

    from tensor_optix.core.types import Array

EPSILON = 1e-8
"""Added to the variance before its root is taken, so that a constant divides by no zero."""


class Freezable:
    """Something that learns from what it is shown, unless it is frozen."""

    frozen: bool = False
    """While True, nothing changes the statistics."""

    @contextmanager
    def freeze(self) -> Iterator[None]:
        """Freeze within a `with` block; afterwards `frozen` is what it was before."""
        before = self.frozen
        self.frozen = True
        try:
            yield
        finally:
            self.frozen = before


class RunningMeanStd(Freezable):
    """Mean and population variance of everything seen.

    It starts at mean 0 and variance 1, as if `epsilon` rows had been seen already.

    Args:
        shape: The shape `[...]` of one row.
        epsilon: The weight of the start, in rows.

    Raises:
        ValueError: If `epsilon` is negative.
    """

    def __init__(self, shape: tuple[int, ...] = (), epsilon: float = 1e-4) -> None:
        if not epsilon >= 0:
            raise ValueError(f"epsilon must be >= 0, got {epsilon}")
        self.shape = tuple(shape)
        size = math.prod(self.shape)
        self._mean = np.zeros(size)
        self._var = np.ones(size)
        self._count = np.full(1, float(epsilon))

    @property
    def mean(self) -> Array:
        """A copy of the mean, `[...]` float64."""
        return self._mean.reshape(self.shape).copy()

    @property
    def var(self) -> Array:
        """A copy of the variance, `[...]` float64."""
        return self._var.reshape(self.shape).copy()

    @property
    def count(self) -> float:
        """The number of rows seen, plus `epsilon`."""
        return float(self._count[0])

    def update(self, x: ArrayLike) -> None:
        """Take in one row `[...]` or a batch of rows `[B, ...]` (any number of leading axes)."""
        if not self.frozen:
            kernels.update_moments(self._rows(x), self._mean, self._var, self._count)

    def normalize(self, x: ArrayLike, clip: float = 10.0) -> Array:
        """Return `(x - mean) / sqrt(var + 1e-8)`, clipped to [-clip, clip] (0: not clipped).

        Args:
            x: `[...]` or `[B, ...]`.
            clip: In standard deviations.

        Returns:
            The same shape, float32.
        """
        rows = self._rows(x)
        out = np.empty_like(rows)
        kernels.normalize(rows, self._mean, self._var, clip, EPSILON, out)
        return out.reshape(np.shape(x))

    def update_and_normalize(self, x: ArrayLike, clip: float = 10.0) -> Array:
        """Return what `update` and then `normalize` return, in one call."""
        if self.frozen:
            return self.normalize(x, clip)
        rows = self._rows(x)
        out = np.empty_like(rows)
        kernels.update_and_normalize(rows, self._mean, self._var, self._count, clip, EPSILON, out)
        return out.reshape(np.shape(x))

    def state_dict(self) -> dict[str, Array]:
        """Return copies of `mean` `[...]`, `var` `[...]` and `count` `[1]`, all float64."""
        return {"mean": self.mean, "var": self.var, "count": self._count.copy()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take on what `state_dict` returned.

        Raises:
            ValueError: If an array is missing or has another shape; nothing has changed then.
        """
        mean = stored_array(state, "mean", self.shape)
        var = stored_array(state, "var", self.shape)
        count = stored_array(state, "count", (1,))
        self._mean, self._var, self._count = mean.reshape(-1), var.reshape(-1), count

    def _rows(self, x: ArrayLike) -> Array:
        values = np.asarray(x)
        leading = values.ndim - len(self.shape)
        if leading < 0 or values.shape[leading:] != self.shape:
            raise ValueError(
                f"x must be one row of shape {self.shape} or a batch of them, got {values.shape}"
            )
        # What float32 cannot hold becomes infinite, and stays out of the statistics.
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(values, np.float32)
        return rows.reshape(-1, self._mean.size)


def stored_array(state: Mapping[str, Array], name: str, shape: tuple[int, ...] | None) -> Array:
    """Return a float64 copy of an array of a state dict; ValueError if absent or misshapen."""
    if name not in state:
        raise ValueError(f"state must hold {name!r}, got {sorted(state)}")
    array: Array = np.array(state[name], np.float64)
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name!r} must have shape {shape}, got {array.shape}")
    return array
