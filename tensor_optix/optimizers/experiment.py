"""Whether one set of hyperparameters scores better than another, while the scores drift and scatter.

Scores come in, one per window, and the side that made each; out comes `Evidence`: a difference, its
standard error, and how sure it is. Nothing depends on the scale or the offset of the scores.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tensor_optix.core.decisions.statistics import finite, noise_std

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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

    def z_after(self, earlier: Evidence) -> float:
        """Return the z of both experiments together (Stouffer's method, weighted by windows)."""
        total = math.sqrt(self.windows) * self.z + math.sqrt(earlier.windows) * earlier.z
        return total / math.sqrt(self.windows + earlier.windows)


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

    def add_experiment(self, scores: Array, residuals: float) -> None:
        """Take the scores of an experiment, and their sum of squared residuals."""
        self._all.extend(scores.tolist())
        self._residuals.append((residuals, len(scores) - _FITTED))

    def pooled_with(self, residuals: float, freedom: int) -> tuple[float, float]:
        """Return the standard deviation and its degrees of freedom.

        Args:
            residuals: Sum of squared residuals of the experiment at hand.
            freedom: Its degrees of freedom.
        """
        # Successive differences are 2/3 as efficient as residuals around a known line (von Neumann,
        # "Distribution of the ratio of the mean square successive difference", 1941).
        quiet = _EFFICIENCY * (len(self._quiet) - 1) if len(self._quiet) > 2 else 0.0
        squares = residuals + quiet * noise_std(list(self._quiet)) ** 2
        squares += sum(square for square, _ in self._residuals)
        total = freedom + quiet + sum(count for _, count in self._residuals)
        return math.sqrt(squares / total) if total else 0.0, total

    def span_with(self, scores: Array) -> float:
        """Return the highest minus the lowest of the latest scores, those given included."""
        return float(max(scores.max(), *self._all) - min(scores.min(), *self._all))


class Experiment:
    """Two sides in the order A B B A, then B A A B, and so on in turns.

    In every block of four a linear trend cancels exactly, in every eight a quadratic one too. Where the
    scores are a random walk, as while a policy learns, the difference of a block has the very error
    that it has for independent noise of the same successive differences.

    It also answers where hyperparameters change how fast the score rises, not the score: then
    the difference of a block is half the difference of the rates.
    """

    def __init__(self, noise: ScoreNoise) -> None:
        self._noise = noise
        self._scores: list[float] = []

    @property
    def next_side(self) -> int:
        """0 for side A, 1 for side B."""
        return _ORDER[len(self._scores) % len(_ORDER)]

    def add(self, score: float) -> None:
        """Take the score of `next_side`."""
        self._scores.append(score)

    def evidence(self) -> Evidence:
        """Return what whole blocks have shown."""
        scores = np.array(self._scores)
        difference, residuals = self._fit(scores)
        noise, freedom = self._noise.pooled_with(residuals, len(scores) - _FITTED)
        rounding = _ROUNDING * float(np.abs(scores).max())
        noise = noise if noise > rounding else 0.0
        difference = difference if abs(difference) > rounding else 0.0
        error = 2.0 * noise / math.sqrt(len(scores))
        t = _clipped_ratio(difference, error)
        return Evidence(difference, noise, t, _as_rare_z(t, freedom), len(scores))

    def unit(self) -> float:
        """Return what a score difference is measured in: the noise, or else the span of the scores.

        Without noise and with scores that span 1 it is 1; so it is where all scores are equal.
        """
        noise = self.evidence().noise
        return noise or self._noise.span_with(np.array(self._scores)) or 1.0

    def close(self) -> None:
        """Let the noise learn from it."""
        scores = np.array(self._scores)
        self._noise.add_experiment(scores, self._fit(scores)[1])

    def _fit(self, scores: Array) -> tuple[float, float]:
        """Return the difference of the sides, and the sum of squares that is left for the noise.

        Left by a line, the sides, and their running sum: where hyperparameters change how fast the
        score rises, it is the latter that the scores follow, and they are no noise.
        """
        steps = np.arange(len(scores))
        sides = 1.0 - 2.0 * np.array([_ORDER[step % len(_ORDER)] for step in steps])
        heights = scores - scores.mean()
        model = np.stack([np.ones(len(scores)), steps - steps.mean(), sides, np.cumsum(sides)], 1)
        left = heights - model @ np.linalg.lstsq(model, heights, rcond=None)[0]
        return 2.0 * float(sides @ heights) / len(scores), float(left @ left)


def together(evidences: Sequence[Evidence]) -> Evidence:
    """Return how sure it is that any of several experiments found something, in either direction.

    The squares of their z add up to a chi-square. The difference and t are those of the surest.
    """
    from scipy.special import chdtrc

    surest = max(evidences, key=lambda evidence: abs(evidence.z))
    rarity = float(chdtrc(len(evidences), sum(evidence.z**2 for evidence in evidences)))
    windows = sum(evidence.windows for evidence in evidences)
    return replace(surest, z=_z_of(rarity), windows=windows)


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


_TEST_BLOCKS = 3
_TEST_Z = 1.0
_KEEP_Z = 4.0
_HOPELESS_Z = 0.0


@dataclass(frozen=True)
class Reading:
    """What one window answered."""

    score: float
    point: Array
    """`[D]`, the point of the unit cube that was in force."""
    values: dict[str, Any]
    """The tuned hyperparameters that were in force."""


@dataclass(frozen=True)
class Comparison:
    """The outcome of an experiment."""

    evidence: Evidence
    unit: float
    """What its difference is measured in: see `Experiment.unit`."""
    first: Reading
    """The first side as it was last in force."""
    second: Reading

    @property
    def slopes(self) -> Array:
        """`[D]`, the difference in `unit`s over the distance of the sides; 0 where they are the same."""
        apart = self.first.point - self.second.point
        slopes = np.zeros(len(apart))
        np.divide(self.evidence.difference / self.unit, apart, out=slopes, where=apart != 0.0)
        return slopes


Trial: TypeAlias = "Array | None"
"""A point `[D]` to try; None: the base."""
Cycle: TypeAlias = Generator[Trial, Reading, bool]
"""A sequence of trials; returns whether it moved the base."""


class Reach:
    """How far a probe is from the base, as a share of the range.

    Args:
        usual: To begin with.
        smallest: However many improvements there are.
        largest: However long a plateau lasts.
    """

    def __init__(self, usual: float, smallest: float, largest: float) -> None:
        self.size = usual
        self._usual = usual
        self._smallest = smallest
        self._largest = max(largest, usual)

    def shrink(self) -> None:
        """Take off a fifth."""
        self.size = max(0.8 * self.size, self._smallest)

    def begin_plateau(self) -> None:
        """Double it, up to the largest."""
        self.size = max(self.size, min(2.0 * self.size, self._largest))

    def widen(self, in_plateau: bool) -> None:
        """Restore what is usual after probes that showed nothing; in a plateau, double it at least.

        Many improvements make it so small that noise drowns every probe; doubling would take
        as many cycles to undo that.
        """
        if in_plateau:
            self.begin_plateau()
        self.size = max(self.size, self._usual)


def stands(evidence: Evidence, earlier: Evidence | None) -> bool:
    """Whether a point has beaten the base: by itself, and with the evidence that proposed it."""
    return evidence.z > _TEST_Z and _z_together(evidence, earlier) > _KEEP_Z


def is_open(evidence: Evidence, earlier: Evidence | None) -> bool:
    """Whether another block could change the verdict on a point."""
    blocks = _TEST_BLOCKS if earlier else _TEST_BLOCKS + 1
    if evidence.windows >= blocks * BLOCK or evidence.z <= _HOPELESS_Z:
        return False
    return not stands(evidence, earlier)


def _z_together(evidence: Evidence, earlier: Evidence | None) -> float:
    return evidence.z if earlier is None else evidence.z_after(earlier)
