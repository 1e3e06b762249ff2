"""Whether one set of hyperparameters scores better than another, while the scores drift and scatter.

The scores of an experiment come in, one a window, in the order of `side_of`; out comes `Evidence`: a
difference, its standard error, and how sure it is. Nothing depends on the scale or the offset of the scores.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.argument_checks import at_least, finite_number
from tensor_optix.core.decisions.statistics import finite, noise_std

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tensor_optix.core.types import Array

BLOCK = 4
"""Windows of a block: each side twice."""
_ORDER = (0, 1, 1, 0, 1, 0, 0, 1)
_QUIET_SCORES = 16
_EXPERIMENTS = 6
_SPAN_SCORES = 100
_EFFICIENCY = 2.0 / 3.0
_FITTED = 4
_ROUNDING = 1e-9
_CERTAIN_T = 1e6
_CERTAIN_Z = 8.0
_TEST_BLOCKS = 3
_TEST_Z = 1.0
_KEEP_Z = 4.0
_HOPELESS_Z = 0.0


@dataclass(frozen=True)
class Evidence:
    """What an experiment has shown so far."""

    difference: float
    """The first side's mean score minus the second's."""
    noise: float
    """Standard deviation of one score around the trend; 0 where there is none."""
    t: float
    """`difference` in standard errors, within 1e6, which stands for certainty."""
    z: float
    """The quantile of the standard normal that is as rare as `t` is; within 8."""
    windows: int
    """How many scores went in."""

    @property
    def shrinkage(self) -> float:
        """`max(0, 1 - 1 / t^2)`: how much of the difference is likely to be real.

        The positive-part estimator of James and Stein ("Estimation with quadratic loss", 1961) for
        one coordinate: 0 up to one standard error, 1 without noise.
        """
        return 1.0 - 1.0 / self.t**2 if abs(self.t) > 1.0 else 0.0

    def z_after(self, earlier: Evidence | None) -> float:
        """Return the z of both experiments together (Stouffer's method, weighted by windows)."""
        if earlier is None:
            return self.z
        total = math.sqrt(self.windows) * self.z + math.sqrt(earlier.windows) * earlier.z
        return total / math.sqrt(self.windows + earlier.windows)

    def stands(self, earlier: Evidence | None) -> bool:
        """Whether a point has beaten the base: by itself, and with the evidence that proposed it."""
        return self.z > _TEST_Z and self.z_after(earlier) > _KEEP_Z

    def is_open(self, earlier: Evidence | None) -> bool:
        """Whether another block could change the verdict on a point."""
        blocks = _TEST_BLOCKS if earlier else _TEST_BLOCKS + 1
        if self.windows >= blocks * BLOCK or self.z <= _HOPELESS_Z:
            return False
        return not self.stands(earlier)


def together(evidences: Sequence[Evidence]) -> Evidence:
    """Return how sure it is that any of several experiments found something, in either direction.

    The squares of their z add up to a chi-square. The difference and t are those of the surest.
    """
    from scipy.special import chdtrc

    surest = max(evidences, key=lambda evidence: abs(evidence.z))
    rarity = float(chdtrc(len(evidences), sum(evidence.z**2 for evidence in evidences)))
    windows = sum(evidence.windows for evidence in evidences)
    return replace(surest, z=_z_of(rarity), windows=windows)


def side_of(window: int) -> int:
    """Return which side, 0 or 1, an experiment tries in a window: A B B A, then B A A B, in turns.

    In every block of four a linear trend cancels exactly, in every eight a quadratic one too. Where the
    scores are a random walk, as while a policy learns, the difference of a block has the very error
    that it has for independent noise of the same successive differences.

    It also answers where hyperparameters change how fast the score rises, not the score: then
    the difference of a block is half the difference of the rates.
    """
    return _ORDER[window % len(_ORDER)]


class ScoreNoise:
    """How much scores scatter around their trend, learned while the hyperparameters stand still.

    Two sources are pooled by their degrees of freedom: the noise of the latest quiet scores, and what
    the latest experiments left unexplained. The scores of an experiment are kept out of the former,
    where the difference between its sides would count as noise.
    """

    def __init__(self, scores: Iterable[float] = ()) -> None:
        known = finite(list(scores)).tolist()
        self._quiet: deque[float] = deque(known, maxlen=_QUIET_SCORES)
        self._all: deque[float] = deque(known, maxlen=_SPAN_SCORES)
        self._residuals: deque[tuple[float, int]] = deque(maxlen=_EXPERIMENTS)
        self.quiet_scores = len(known)
        """How many quiet scores it has seen."""

    def add_quiet(self, score: float) -> None:
        """Take a score made by the accepted hyperparameters, outside of an experiment."""
        self._quiet.append(score)
        self._all.append(score)
        self.quiet_scores += 1

    def add_experiment(self, scores: Sequence[float]) -> None:
        """Take the scores of an experiment that has ended."""
        self._all.extend(scores)
        self._residuals.append((_fit(np.array(scores))[1], len(scores) - _FITTED))

    def evidence(self, scores: Sequence[float]) -> Evidence:
        """Return what an experiment of whole blocks has shown; window i was made by `side_of(i)`."""
        heights = np.array(scores)
        difference, residuals = _fit(heights)
        noise, freedom = self._pooled_with(residuals, len(scores) - _FITTED)
        rounding = _ROUNDING * float(np.abs(heights).max())
        noise = noise if noise > rounding else 0.0
        difference = difference if abs(difference) > rounding else 0.0
        t = _clipped_ratio(difference, 2.0 * noise / math.sqrt(len(scores)))
        return Evidence(difference, noise, t, _as_rare_z(t, freedom), len(scores))

    def unit(self, scores: Sequence[float]) -> float:
        """Return what a difference is measured in: the noise, or else the span of the latest scores.

        Without noise and with scores that span 1 it is 1; so it is where all scores are equal.
        """
        span = max(*scores, *self._all) - min(*scores, *self._all)
        return self.evidence(scores).noise or float(span) or 1.0

    def state_dict(self) -> dict[str, Any]:
        """Return all that it knows, as plain values."""
        return {
            "quiet": list(self._quiet),
            "all": list(self._all),
            "residuals": list(self._residuals),
            "quiet_scores": self.quiet_scores,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Know what `state_dict` returned.

        Raises:
            ValueError: If a score is not finite, or a sum of squares negative.
        """
        quiet, everything = (
            [finite_number("a score", score) for score in state[name]] for name in ("quiet", "all")
        )
        residuals = [
            (at_least("a sum of squares", float(square), 0.0), int(count))
            for square, count in state["residuals"]
        ]
        self._quiet = deque(quiet, maxlen=_QUIET_SCORES)
        self._all = deque(everything, maxlen=_SPAN_SCORES)
        self._residuals = deque(residuals, maxlen=_EXPERIMENTS)
        self.quiet_scores = int(state["quiet_scores"])

    def _pooled_with(self, residuals: float, freedom: int) -> tuple[float, float]:
        """Return the standard deviation and its degrees of freedom, with those of an experiment."""
        # Successive differences are 2/3 as efficient as residuals around a known line (von Neumann,
        # "Distribution of the ratio of the mean square successive difference", 1941).
        quiet = _EFFICIENCY * (len(self._quiet) - 1) if len(self._quiet) > 2 else 0.0
        squares = residuals + quiet * noise_std(list(self._quiet)) ** 2
        squares += sum(square for square, _ in self._residuals)
        total = freedom + quiet + sum(count for _, count in self._residuals)
        return math.sqrt(squares / total) if total else 0.0, total


def _fit(scores: Array) -> tuple[float, float]:
    """Return the difference of the sides, and the sum of squares that is left for the noise.

    Left by a line, the sides, and their running sum: where hyperparameters change how fast the
    score rises, it is the latter that the scores follow, and they are no noise.
    """
    sides, model = _model(len(scores))
    heights = scores - scores.mean()
    left = heights - model @ np.linalg.lstsq(model, heights, rcond=None)[0]
    return 2.0 * float(sides @ heights) / len(scores), float(left @ left)


@cache
def _model(windows: int) -> tuple[Array, Array]:
    steps = np.arange(windows)
    sides = 1.0 - 2.0 * np.array([side_of(window) for window in range(windows)])
    return sides, np.stack([np.ones(windows), steps - steps.mean(), sides, np.cumsum(sides)], 1)


def _clipped_ratio(difference: float, error: float) -> float:
    if difference == 0.0:
        return 0.0
    ratio = difference / error if error > 0.0 else math.copysign(math.inf, difference)
    return min(max(ratio, -_CERTAIN_T), _CERTAIN_T)


def _as_rare_z(t: float, freedom: float) -> float:
    if freedom <= 0.0:
        return 0.0
    # SciPy takes longer to import than the whole package may.
    from scipy.special import stdtr

    return math.copysign(_z_of(float(stdtr(freedom, -abs(t)))), t)


def _z_of(rarity: float) -> float:
    """Return the z that standard normal numbers exceed so rarely."""
    from scipy.special import ndtri

    return min(-float(ndtri(rarity)), _CERTAIN_Z) if rarity > 0.0 else _CERTAIN_Z
