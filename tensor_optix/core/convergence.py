"""The plateau test: in come the scores of all evaluations, out comes a verdict with its numbers.

`AutoScheduler` asks it after each evaluation that improved nothing. It is pure: the same scores
give the same answer, so a verdict can be checked from the log alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tensor_optix.core.statistics import (
    block_change,
    finite,
    gain_so_far,
    successive_difference_std,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.types import Array


@dataclass(frozen=True)
class PlateauSettings:
    """How much evidence a plateau needs. The defaults were tuned on simulated learning curves."""

    short_horizon: int = 8
    long_horizon: int = 19
    """The least horizons, in evaluations: they grow to the shares below."""
    short_share: float = 1 / 8
    long_share: float = 1 / 5
    """Horizons as shares of the evaluations so far."""
    uncertainty_z: float = 2.0
    """An improvement below this many standard errors is no improvement."""
    gain_share: float = 0.05
    """An improvement below this share of what was gained so far is small."""
    confidence_z: float = 1.5
    """At the long horizon it must be small with this many standard errors to spare."""
    negligible_share: float = 0.01
    """One below this share counts for nothing, however certain it is."""
    gain_z: float = 5.0
    """A gain above this many standard errors is one."""
    patience: int = 4
    """How many times longer a run that has gained nothing may go on."""

    def horizons(self, evaluations: int) -> tuple[int, int]:
        """Return the short and the long horizon after this many evaluations."""
        short = max(self.short_horizon, int(evaluations * self.short_share))
        return short, max(self.long_horizon, int(evaluations * self.long_share))


@dataclass(frozen=True)
class PlateauTest:
    """A verdict and the numbers that it rests on; pairs are (short horizon, long horizon)."""

    is_plateau: bool
    still_rising: bool
    """Whether the improvement at either horizon is no small share of the gain so far, or there are
    too few scores to tell. No counter may overrule that."""
    evaluations: int
    """The number of scores that could show a plateau: those since the last restart."""
    horizons: tuple[int, int]
    improvements: tuple[float, float]
    """Mean of the last h scores minus the mean of the h before; NaN while there are fewer."""
    uncertainties: tuple[float, float]
    """`z * noise * sqrt(2 / h)`."""
    gain: float
    """Best block mean minus the first block mean."""
    has_gained: bool
    """Whether that gain stands out of the noise. If not, the test asks for far more evaluations."""
    noise: float
    """Standard deviation of the recent scores around their trend."""


_DEFAULTS = PlateauSettings()


def plateau_test(
    scores: Sequence[float] | Array, since: int = 0, settings: PlateauSettings = _DEFAULTS
) -> PlateauTest:
    """Test whether the scores have stopped rising.

    The last h scores are compared with the h before them at two horizons, a short one for what
    happens now and a long one against a pause that merely looks like an end. There is a plateau
    where, at both, the improvement lies below its own uncertainty `z * noise * sqrt(2 / h)` (or is
    negligible) and below a small share of the gain so far, at the long horizon with
    `confidence_z` standard errors to spare. A falling score is a plateau as well. The noise is that
    of successive differences (von Neumann et al. 1941), so no trend is taken for noise; positive
    autocorrelation makes it too small.
    A run that has gained nothing yet may be waiting for its first reward: it has no gain to measure
    by, and is given `settings.patience` times the evaluations instead.

    Args:
        scores: `[n]`, the score of every evaluation, oldest first; not finite ones are dropped.
        since: Index of a restart: only scores from here on can show the plateau, while the gain
            is counted from the first score of all.
        settings: How much evidence to ask for.
    """
    everything = np.asarray(scores, np.float64)
    recent = finite(everything[since:])
    everything = finite(everything)
    horizons = settings.horizons(len(recent))
    gain = gain_so_far(everything, horizons[0])
    gain_error = successive_difference_std(everything) * math.sqrt(2.0 / horizons[0])
    has_gained = gain > 0.0 and gain > settings.gain_z * gain_error
    noise = successive_difference_std(recent[-2 * horizons[1] :])
    changes, errors = (math.nan, math.nan), (math.nan, math.nan)
    if len(recent) >= 2 * horizons[1]:
        changes = (block_change(recent, horizons[0]), block_change(recent, horizons[1]))
        errors = (noise * math.sqrt(2.0 / horizons[0]), noise * math.sqrt(2.0 / horizons[1]))
    patient = len(recent) >= 2 * settings.long_horizon * settings.patience
    small = _is_small(changes, gain, settings)
    surely_small = _is_small(
        (changes[0], changes[1] + settings.confidence_z * errors[1]), gain, settings
    )
    return PlateauTest(
        is_plateau=_is_within_noise(changes, errors, gain if has_gained else 0.0, settings)
        and (surely_small if has_gained else patient),
        still_rising=not small and has_gained,
        evaluations=len(recent),
        horizons=horizons,
        improvements=changes,
        uncertainties=(settings.uncertainty_z * errors[0], settings.uncertainty_z * errors[1]),
        gain=gain,
        has_gained=has_gained,
        noise=noise,
    )


# Comparisons with NaN are false: with too few scores nothing is small and nothing is noise.
def _is_small(changes: tuple[float, float], gain: float, settings: PlateauSettings) -> bool:
    return all(change < settings.gain_share * gain for change in changes)


def _is_within_noise(
    changes: tuple[float, float],
    errors: tuple[float, float],
    gain: float,
    settings: PlateauSettings,
) -> bool:
    negligible = settings.negligible_share * gain
    limits = [max(settings.uncertainty_z * error, negligible) for error in errors]
    return all(change <= limit for change, limit in zip(changes, limits, strict=True))
