"""Statistics on scores: in come 1-d score arrays, oldest first, out come plain numbers.

The backoff scheduler and the plateau test (`core.convergence`) decide by these. Scores that are not
finite are dropped everywhere: they are no evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.types import Array

_UPPER_QUARTILE = 1.1503  # of |Z|, Z standard normal: quantile 0.75
_CLIP = 3.0


@dataclass(frozen=True)
class LineFit:
    """A least-squares line through scores at x = 0, 1, 2, ..."""

    slope: float
    """Score units per evaluation."""
    standard_error: float
    """Of the slope."""
    t: float
    """`slope / standard_error`: 0 for a constant, infinite for an exact slope."""
    residual_std: float
    """Around the line, with n - 2 degrees of freedom."""
    points: int
    """How many finite scores went in."""


def finite(scores: Sequence[float] | Array) -> Array:
    """Return the finite scores as a float64 array `[n]`."""
    values = np.asarray(scores, np.float64).ravel()
    keep = np.isfinite(values)
    return values if keep.all() else values[keep]


def successive_difference_std(scores: Sequence[float] | Array) -> float:
    """Estimate the noise from the differences of neighbours, every one counting in full.

    `sqrt(sum((d_i - mean(d))^2) / (2 (m - 1/m)))` over the m differences d: a slow trend cancels,
    and subtracting the mean difference removes a steady one exactly (von Neumann, Kent, Bellinson
    and Hart, "The mean square successive difference", 1941). Neighbouring differences share a
    score, so the mean takes 1/m of a degree of freedom, not one: the square is unbiased for
    independent noise. Outliers count in full, as they do in the error of a mean. Positive
    autocorrelation makes it too small.

    Args:
        scores: `[n]`, oldest first.

    Returns:
        The standard deviation of the noise; 0 for fewer than 3 finite scores.
    """
    values = finite(scores)
    if len(values) < 3:
        return 0.0
    differences = np.diff(values)
    count = len(differences)
    return float(differences.std()) * math.sqrt(count / (2.0 * (count - 1.0 / count)))


def noise_std(scores: Sequence[float] | Array) -> float:
    """Estimate the noise around the local trend, whatever a few outliers or jumps do.

    As `successive_difference_std`, but around the median difference, and with every deviation
    clipped (winsorised) at 3 robust standard deviations, which come from the upper quartile of the
    deviations. The quartile rather than the median, so that scores that take only a few values, of
    which many neighbours are equal, keep their noise. A line or a single step has no noise.

    Args:
        scores: `[n]`, oldest first.

    Returns:
        The standard deviation of the noise; 0 for fewer than 3 finite scores.
    """
    values = finite(scores)
    if len(values) < 3:
        return 0.0
    differences = np.diff(values)
    deviations = np.abs(differences - np.median(differences))
    limit = _CLIP * float(np.quantile(deviations, 0.75)) / _UPPER_QUARTILE
    count = len(deviations)
    squares = float(np.square(np.minimum(deviations, limit)).sum())
    return math.sqrt(squares / (2.0 * (count - 1.0 / count)))


def slope_t(scores: Sequence[float] | Array) -> LineFit:
    """Fit a least-squares line and say how sure its slope is.

    `t = slope / (s / sqrt(sum((x - mean x)^2)))` with s the standard deviation of the residuals,
    n - 2 degrees of freedom (Student's test of a regression slope).

    Args:
        scores: `[n]`, oldest first.

    Returns:
        The fit; all zeros for fewer than 3 finite scores.
    """
    values = finite(scores)
    n = len(values)
    if n < 3:
        return LineFit(0.0, 0.0, 0.0, 0.0, n)
    # Counted from the first score, a constant is exactly 0 and cannot leave a slope of rounding.
    heights = values - values[0]
    heights -= heights.mean()
    x = np.arange(n) - (n - 1) / 2.0
    spread = float(x @ x)
    slope = float(x @ heights) / spread
    residuals = heights - slope * x
    residual = math.sqrt(float(residuals @ residuals) / (n - 2))
    error = residual / math.sqrt(spread)
    return LineFit(slope, error, _ratio(slope, error), residual, n)


def residual_std(scores: Sequence[float] | Array) -> float:
    """Return the standard deviation around a least-squares line (n - 2 degrees of freedom)."""
    return slope_t(scores).residual_std


def rises_significantly(scores: Sequence[float] | Array, alpha: float = 0.005) -> bool:
    """Whether the scores rise: a one-sided t-test of their slope at level `alpha`."""
    fit = slope_t(scores)
    if fit.t <= 0.0:
        return False
    # SciPy takes longer to import than the whole package may, and only a rising score needs it.
    from scipy.special import stdtrit

    return fit.t > float(stdtrit(fit.points - 2, 1.0 - alpha))


def block_change(scores: Sequence[float] | Array, horizon: int) -> float:
    """Return the mean of the last `horizon` scores minus the mean of the `horizon` before them.

    Raises:
        ValueError: If there are fewer than `2 * horizon` scores.
    """
    values = np.asarray(scores, np.float64)
    if horizon < 1 or len(values) < 2 * horizon:
        raise ValueError(
            f"horizon must be in [1, {len(values) // 2}] for {len(values)} scores, got {horizon}"
        )
    return float(values[-horizon:].mean() - values[-2 * horizon : -horizon].mean())


def gain_so_far(scores: Sequence[float] | Array, block: int) -> float:
    """Return the best mean of `block` neighbouring scores minus the mean of the first `block`.

    Never negative. A block longer than the scores is cut to their number; no scores: 0.
    """
    values = np.asarray(scores, np.float64)
    width = min(block, len(values))
    if width < 1:
        return 0.0
    sums = np.concatenate(([0.0], np.cumsum(values - values[0])))
    means = (sums[width:] - sums[:-width]) / width
    return float(means.max() - means[0])


def _ratio(slope: float, error: float) -> float:
    if slope == 0.0:
        return 0.0
    return slope / error if error > 0.0 else math.copysign(math.inf, slope)
