"""Statistics on scores: in come 1-d score arrays, oldest first, out come plain numbers.

The scheduler and the plateau test (`convergence`) decide by these. Scores that are not
finite are dropped everywhere: they are no evidence.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.types import Array

_UPPER_QUARTILE = 1.1503  # of |Z|, Z standard normal: quantile 0.75
_CLIP = 3.0


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


def line_fit(scores: Sequence[float] | Array) -> tuple[float, float]:
    """Fit a least-squares line through the scores at x = 0, 1, 2, ...

    Args:
        scores: `[n]`, oldest first.

    Returns:
        The slope, in score units per evaluation, and the standard deviation of the scores around the line,
        with n - 2 degrees of freedom; zeros for fewer than 3 finite scores.
    """
    values = finite(scores)
    n = len(values)
    if n < 3:
        return 0.0, 0.0
    # Counted from the first score, a constant is exactly 0 and cannot leave a slope of rounding.
    heights = values - values[0]
    heights -= heights.mean()
    x = np.arange(n) - (n - 1) / 2.0
    slope = float(x @ heights) / float(x @ x)
    residuals = heights - slope * x
    return slope, math.sqrt(float(residuals @ residuals) / (n - 2))


def slope_t(scores: Sequence[float] | Array) -> float:
    """Say how sure the slope of the scores is.

    `t = slope / (s / sqrt(sum((x - mean x)^2)))` with s the standard deviation of the residuals,
    n - 2 degrees of freedom (Student's test of a regression slope).

    Args:
        scores: `[n]`, oldest first.

    Returns:
        t: 0 for a constant and for fewer than 3 finite scores, infinite for an exact slope.
    """
    n = len(finite(scores))
    slope, residual = line_fit(scores)
    if slope == 0.0:
        return 0.0
    error = residual / math.sqrt(n * (n * n - 1) / 12)
    return slope / error if error > 0.0 else math.copysign(math.inf, slope)


def rises_significantly(scores: Sequence[float] | Array, alpha: float = 0.005) -> bool:
    """Whether the scores rise: a one-sided t-test of their slope at level `alpha`."""
    values = finite(scores)
    t = slope_t(values)
    if t <= 0.0:
        return False
    # SciPy takes longer to import than the whole package may, and only a rising score needs it.
    from scipy.special import stdtrit

    return t > float(stdtrit(len(values) - 2, 1.0 - alpha))


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
