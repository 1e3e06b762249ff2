"""How sure a score is: mean returns of a few episodes come in, cautious lower bounds go out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from tensor_optix.core.base_evaluator import SCORE_COUNT, SCORE_STD

if TYPE_CHECKING:
    from tensor_optix.core.types import EvalMetrics

PRIOR_EPISODES = 4
"""How many episodes the variance of earlier windows counts for."""


class ScoreConfidence:
    """Turns a mean return into a lower bound, one standard error down.

    The variance of episode returns is shrunk towards that of earlier windows: a window may hold a single
    episode.
    """

    def __init__(self) -> None:
        self._variance: float | None = None

    def lower_bound(self, metrics: EvalMetrics) -> float:
        """Return `score - sqrt(variance / K)`; the plain score where it is no mean of K others."""
        count, variance = self._spread(metrics)
        if variance is None:
            return metrics.primary_score
        return metrics.primary_score - math.sqrt(variance / count)

    def take(self, metrics: EvalMetrics) -> float:
        """Return the lower bound, and let the score's variance count for the later ones."""
        bound = self.lower_bound(metrics)
        _, variance = self._spread(metrics)
        self._variance = self._variance if variance is None else variance
        return bound

    def _spread(self, metrics: EvalMetrics) -> tuple[int, float | None]:
        """Return how many episodes the score is the mean of, and the variance of one, if it is told."""
        prefix = "val_" if "val_score" in metrics.metrics else ""
        count = metrics.metrics.get(prefix + SCORE_COUNT, 0)
        std = metrics.metrics.get(prefix + SCORE_STD, math.nan)
        if count < 1 or not math.isfinite(std):
            return 0, None
        if self._variance is None:
            return count, float(std**2)
        total = PRIOR_EPISODES * self._variance + count * std**2
        return count, float(total / (PRIOR_EPISODES + count))


def pooled(first: EvalMetrics, second: EvalMetrics) -> EvalMetrics:
    """Return the score of both sets of episodes together, with the first one's other metrics.

    Scores that do not say how many episodes they are the mean of count alike. A second one that is not
    finite, as no episode finished, adds nothing.
    """
    if not math.isfinite(second.primary_score):
        return first
    n, m = (metrics.metrics.get(SCORE_COUNT, 0) for metrics in (first, second))
    if not (n and m):
        return replace(first, primary_score=(first.primary_score + second.primary_score) / 2.0)
    score = (n * first.primary_score + m * second.primary_score) / (n + m)
    squares = sum(
        k * (one.metrics[SCORE_STD] ** 2 + (one.primary_score - score) ** 2)
        for k, one in ((n, first), (m, second))
    )
    spread = {SCORE_COUNT: n + m, SCORE_STD: math.sqrt(squares / (n + m))}
    return replace(
        first,
        primary_score=score,
        metrics=first.metrics | spread | {"primary_score": score},
    )
