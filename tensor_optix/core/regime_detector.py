"""What kind of stretch the training is in: a history of evaluations comes in, a label goes out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tensor_optix.core.argument_checks import at_least
from tensor_optix.core.decisions.statistics import line_fit
from tensor_optix.core.evolution.variants import LEAST_POINTS, scores_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.types import EvalMetrics

TINY = 1e-8


class RegimeDetector:
    """Tells "trending", "ranging" and "volatile" scores apart. Subclasses may override `detect`.

    Args:
        volatility_threshold: Volatile above this standard deviation around the line, as a share of the mean.
        trend_threshold: Trending above this slope per evaluation, as a share of the mean.
        window: How many of the latest scores count.

    Raises:
        ValueError: If `window` is below 3.

    Examples:
        >>> from tensor_optix import EvalMetrics, RegimeDetector
        >>> rising = [EvalMetrics(100.0 + 10.0 * window, {}, window) for window in range(10)]
        >>> RegimeDetector().detect(rising)
        'trending'
    """

    def __init__(
        self, volatility_threshold: float = 0.15, trend_threshold: float = 0.05, window: int = 10
    ) -> None:
        at_least("window", window, LEAST_POINTS)
        self.volatility_threshold = volatility_threshold
        self.trend_threshold = trend_threshold
        self.window = window

    def detect(self, metrics_history: Sequence[EvalMetrics]) -> str:
        """Return the label of the latest evaluations; with fewer than 3 scores "ranging".

        A line is fitted through the scores; the residuals' standard deviation and the slope are compared
        with the thresholds, in this order, each divided by the absolute mean of the scores.
        """
        scores = scores_of(metrics_history[-self.window :])
        count = len(scores)
        if count < LEAST_POINTS:
            return "ranging"
        size = abs(float(scores.mean())) + TINY
        slope, residual_std = line_fit(scores)
        spread = residual_std * math.sqrt((count - 2) / count)
        if spread / size > self.volatility_threshold:
            return "volatile"
        return "trending" if slope / size > self.trend_threshold else "ranging"
