"""What several runs come to: their scores go in, an interquartile mean and its interval come out.

As in Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", within one
environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import bootstrap, trim_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.core.types import Array

LEVEL = 0.95
RESAMPLES = 2000
_MOST_VALUES = 4_000_000
"""That are in the memory at once, of all resamples."""


def interquartile_mean(scores: Any, axis: int = -1) -> Array:
    """Return the mean of the middle half: of n scores the n // 4 least and the n // 4 greatest are left out.

    Args:
        scores: `[..., n]`, a score of each run.
        axis: Of the runs.
    """
    return np.asarray(trim_mean(np.asarray(scores, np.float64), 0.25, axis=axis))


def interval(
    scores: Any, statistic: Callable[..., Array] = interquartile_mean
) -> tuple[Array, Array]:
    """Return the 95 % interval of a statistic of runs, by a percentile bootstrap over the runs.

    Args:
        scores: `[..., n]` of n runs, at least 2. Each resample takes the same runs everywhere, so that curves
            are resampled whole.
        statistic: Takes scores and the axis of the runs.
    """
    values = np.asarray(scores, np.float64)
    found = bootstrap(
        (values,),
        statistic,
        n_resamples=RESAMPLES,
        batch=max(1, _MOST_VALUES // values.size),
        vectorized=True,
        axis=-1,
        confidence_level=LEVEL,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return np.asarray(found.low), np.asarray(found.high)
