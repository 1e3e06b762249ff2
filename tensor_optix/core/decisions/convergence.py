"""The plateau test: in come the scores of all evaluations, out comes a verdict with its numbers.

`AutoScheduler` asks it after each evaluation that improved nothing. It is pure: the same scores
give the same answer, so a verdict can be checked from the log alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from tensor_optix.core.decisions.statistics import (
    finite,
    gain_so_far,
    noise_std,
    successive_difference_std,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.types import Array


# The defaults of the test were tuned on recorded and simulated curves (benchmarks/autonomy).
SHORT_HORIZON, LONG_HORIZON = 8, 19
"""The least horizons, in evaluations: they grow to the shares below."""
SHORT_SHARE, LONG_SHARE = 1 / 8, 0.18
"""Horizons as shares of the time so far."""
QUIET_NOISE = 0.05
NOISE_SHARE = 8.0
"""The long share grows by `NOISE_SHARE` times the noise above `QUIET_NOISE`, as a share of the gain: what is
noisy also wanders."""
LONGEST_SHARE = 9 / 20
"""It does not grow beyond this."""
UNCERTAINTY_Z = 2.0
"""An improvement below this many standard errors is no improvement."""
GAIN_SHARE = 0.05
"""An improvement below this share of what was gained so far is small."""
CONFIDENCE_Z = 1.5
"""At the long horizon it must be small with this many standard errors to spare."""
NEGLIGIBLE_SHARE = 0.01
"""One below this share counts for nothing, however certain it is."""
GAIN_Z = 5.0
"""A gain above this many standard errors is one."""
PATIENCE = 8
"""How many times longer a run that has gained nothing may go on."""
WANDER_BLOCK = 20
"""Evaluations of the best block that a run is measured by."""
WANDER_EVALUATIONS = 200
"""Before so many, pauses that come to an end are as long as the ones that do not."""
WANDER_SHARE = 1 / 4
"""What came after the best block must take this share of the time until then, and 20 windows."""
WANDER_GAIN = 0.02
"""Blocks that differ by less than this share of the gain are equal; so small must the trend since be."""
WANDER_PARTS = 6
"""Into so many the time since is divided: a slow way up and down is one draw each, not many."""


@dataclass(frozen=True)
class PlateauTest:
    """A verdict and the numbers that it rests on; pairs are (short horizon, long horizon)."""

    is_plateau: bool
    still_rising: bool
    """Whether the improvement at either horizon is no small share of the gain so far, or there are
    too few scores to tell. No counter may overrule that."""
    evaluations: int
    """The number of scores that could show a plateau: those since the last restart."""
    horizons: tuple[float, float]
    """In the unit of `times`."""
    improvements: tuple[float, float]
    """Mean of the scores within the last h minus the mean of those within the h before; NaN while there
    are none."""
    uncertainties: tuple[float, float]
    """`z * noise * sqrt(1 / n + 1 / m)` for the n and m scores of the two."""
    gain: float
    """Best block mean minus the first block mean."""
    has_gained: bool
    """Whether that gain stands out of the noise. If not, the test asks for far more evaluations."""
    noise: float
    """Standard deviation of the recent scores around their trend."""
    only_wanders: bool = False
    """Whether the run has long been at its best, and goes slowly up and down since."""


def plateau_test(
    scores: Sequence[float] | Array, since: int = 0, times: Sequence[float] | Array | None = None
) -> PlateauTest:
    """Test whether the scores have stopped rising.

    What was scored within the last h is compared with the h before that at two horizons, a short one for
    what happens now and a long one against a pause that merely looks like an end. There is a plateau
    where, at both, the improvement lies below its own uncertainty `z * noise * sqrt(1 / n + 1 / m)` (or is
    negligible) and below a small share of the gain so far, at the long horizon with `CONFIDENCE_Z` standard
    errors to spare. A falling score is a plateau as well. The noise is that of successive differences (von
    Neumann et al. 1941), so no trend is taken for noise. A policy that wanders slowly up and down goes with
    noise, so that the long horizon grows with the noise. Where that is not enough, a long run only wanders
    if its best block of evaluations is long ago, and block means since show no trend.
    A run that has gained nothing yet may be waiting for its first reward: it has no gain to measure
    by, and is given `PATIENCE` times the evaluations instead.

    Args:
        scores: `[n]`, the score of every evaluation, oldest first; not finite ones are dropped.
        since: Index of a restart: only scores from here on can show the plateau, while the gain
            is counted from the first score of all.
        times: `[n]`, when each was made, ascending: evaluations grow rarer, and a pause is as long as it
            takes, not as the number of looks at it. None: 0, 1, 2, ...
    """
    everything = np.asarray(scores, np.float64)
    clock = np.arange(len(everything)) if times is None else np.asarray(times, np.float64)
    keep = np.isfinite(everything[since:])
    recent, clock = everything[since:][keep], clock[since:][keep]
    everything = finite(everything)
    block = max(SHORT_HORIZON, int(len(recent) * SHORT_SHARE))
    gain = gain_so_far(everything, block)
    gain_error = successive_difference_std(everything) * math.sqrt(2.0 / block)
    has_gained = gain > 0.0 and gain > GAIN_Z * gain_error
    tail = max(LONG_HORIZON, int(len(recent) * LONG_SHARE))
    noise = successive_difference_std(recent[-2 * tail :])
    # A few dips are no restlessness: they count for the errors, not here.
    restless = noise_std(recent[-2 * tail :]) / gain if has_gained else 0.0
    horizons = _horizons(clock, restless)
    changes, errors = _changes(recent, clock, horizons, noise)
    patient = len(recent) >= 2 * LONG_HORIZON * PATIENCE
    small = _is_small(changes, gain)
    surely_small = _is_small((changes[0], changes[1] + CONFIDENCE_Z * errors[1]), gain)
    return PlateauTest(
        is_plateau=_is_within_noise(changes, errors, gain if has_gained else 0.0)
        and (surely_small if has_gained else patient),
        still_rising=not small and has_gained,
        evaluations=len(recent),
        horizons=horizons,
        improvements=changes,
        uncertainties=(UNCERTAINTY_Z * errors[0], UNCERTAINTY_Z * errors[1]),
        gain=gain,
        has_gained=has_gained,
        noise=noise,
        only_wanders=has_gained and _only_wanders(recent, clock, gain),
    )


def _only_wanders(scores: Array, clock: Array, gain: float) -> bool:
    """Whether the first of the best blocks is long ago, and the means of the parts since have no trend."""
    if len(scores) < WANDER_EVALUATIONS:
        return False
    means = np.convolve(scores, np.full(WANDER_BLOCK, 1.0 / WANDER_BLOCK), "valid")
    first = int(np.argmax(means >= means.max() - WANDER_GAIN * gain))
    begin, best = clock[first], clock[first + WANDER_BLOCK - 1]
    if clock[-1] - best < WANDER_SHARE * (best - clock[0] + 1.0) + WANDER_BLOCK:
        return False
    part = np.ceil((clock - begin) / (clock[-1] - begin) * WANDER_PARTS)
    parts = [scores[part == number] for number in range(1, WANDER_PARTS + 1)]
    if min(map(len, parts)) < 2:
        return False
    line = stats.linregress(np.arange(WANDER_PARTS), [one.mean() for one in parts])
    return bool(WANDER_PARTS * (line.slope + line.stderr) < WANDER_GAIN * gain)


def _horizons(clock: Array, noise: float) -> tuple[float, float]:
    """Return the short and the long horizon for scores of these times; `noise` as a share of the gain."""
    excess = max(0.0, noise - QUIET_NOISE)
    long_share = LONG_SHARE + NOISE_SHARE * excess
    long_share = max(LONG_SHARE, min(LONGEST_SHARE, long_share))
    return (_horizon(clock, SHORT_HORIZON, SHORT_SHARE), _horizon(clock, LONG_HORIZON, long_share))


def _horizon(clock: Array, least: int, share: float) -> float:
    """Return a share of the time so far, but no less than `least` evaluations take."""
    count = len(clock)
    if count <= least:
        return float(least)
    now, spacing = clock[-1], (clock[-1] - clock[-1 - least]) / least
    return float(max(now - clock[-1 - least], share * (now - clock[0] + spacing)))


def _changes(
    scores: Array, clock: Array, horizons: tuple[float, float], noise: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the improvement at each horizon, and its standard error; NaN where there are too few scores."""
    changes, errors = [], []
    for horizon in horizons:
        late = clock > clock[-1] - horizon if len(clock) else clock > 0
        early = (clock > clock[-1] - 2.0 * horizon) & ~late if len(clock) else late
        reaches = len(clock) > 0 and clock[-1] - clock[0] >= 2.0 * horizon - 1.0
        n, m = int(late.sum()), int(early.sum())
        if not (reaches and n and m):
            changes.append(math.nan)
            errors.append(math.nan)
            continue
        changes.append(float(scores[late].mean() - scores[early].mean()))
        errors.append(noise * math.sqrt(1.0 / n + 1.0 / m))
    return (changes[0], changes[1]), (errors[0], errors[1])


# Comparisons with NaN are false: with too few scores nothing is small and nothing is noise.
def _is_small(changes: tuple[float, float], gain: float) -> bool:
    return all(change < GAIN_SHARE * gain for change in changes)


def _is_within_noise(
    changes: tuple[float, float], errors: tuple[float, float], gain: float
) -> bool:
    negligible = NEGLIGIBLE_SHARE * gain
    limits = [max(UNCERTAINTY_Z * error, negligible) for error in errors]
    return all(change <= limit for change, limit in zip(changes, limits, strict=True))
