"""What an ensemble needs next: evaluations and its status come in, an action goes out."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tensor_optix.core.argument_checks import at_least
from tensor_optix.core.decisions.statistics import line_fit
from tensor_optix.core.evolution.variants import LEAST_POINTS, correlation, scores_of, train_and_val

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.core.types import EvalMetrics

TINY = 1e-8


class MetaAction(Enum):
    """What to do with the ensemble.

    Examples:
        >>> from tensor_optix import MetaAction, MetaController
        >>> class Patient(MetaController):
        ...     def decide(self, metrics_history, pm_status):
        ...         return MetaAction.STOP if len(metrics_history) > 100 else MetaAction.NO_OP
    """

    NO_OP = "NO_OP"
    SPAWN = "SPAWN"
    PRUNE = "PRUNE"
    STOP = "STOP"


class DecidesOnMetaActions(Protocol):
    """What a population asks of its meta controller."""

    def decide(
        self, metrics_history: Sequence[EvalMetrics], pm_status: Mapping[str, Any], /
    ) -> MetaAction:
        """Return the next action."""


class MetaController:
    """Decides when an ensemble grows, shrinks and stops. Subclasses may override `decide`.

    Args:
        gap_threshold: Prune above this mean gap `(train - val) / |val|`.
        gap_slope_threshold: Prune when the gap grows by more than this per evaluation.
        improvement_threshold: Spawn when the score rises by less than this share of its mean.
        window: How many of the latest evaluations count.
        corr_threshold: Spawn when training and validation scores correlate less than this. None: never.

    Raises:
        ValueError: If `window` is below 3.

    Examples:
        >>> from tensor_optix import EvalMetrics, MetaController
        >>> flat = [EvalMetrics(10.0, {}, window) for window in range(10)]
        >>> MetaController().decide(flat, {"ensemble_size": 2, "budget_exhausted": False})
        <MetaAction.SPAWN: 'SPAWN'>
    """

    def __init__(
        self,
        gap_threshold: float = 0.2,
        gap_slope_threshold: float = 0.02,
        improvement_threshold: float = 0.01,
        window: int = 10,
        corr_threshold: float | None = None,
    ) -> None:
        at_least("window", window, LEAST_POINTS)
        self.gap_threshold = gap_threshold
        self.gap_slope_threshold = gap_slope_threshold
        self.improvement_threshold = improvement_threshold
        self.window = window
        self.corr_threshold = corr_threshold

    def decide(
        self, metrics_history: Sequence[EvalMetrics], pm_status: Mapping[str, Any]
    ) -> MetaAction:
        """Return the next action; the first rule that applies decides.

        Args:
            metrics_history: Evaluations, oldest first.
            pm_status: What `PolicyManager.status` returns.

        Returns:
            STOP when the spawn budget is used up; NO_OP with fewer than 3 scores; PRUNE when the gap is wide
            or widening; SPAWN when training and validation disagree, or the score hardly rises; NO_OP.
        """
        if pm_status["budget_exhausted"]:
            return MetaAction.STOP
        recent = metrics_history[-self.window :]
        scores = scores_of(recent)
        if len(scores) < LEAST_POINTS:
            return MetaAction.NO_OP
        train, val = train_and_val(recent)
        gaps = (train - val) / np.maximum(np.abs(val), TINY)
        if len(gaps) and float(gaps.mean()) > self.gap_threshold:
            return MetaAction.PRUNE
        if line_fit(gaps)[0] > self.gap_slope_threshold:
            return MetaAction.PRUNE
        if self.corr_threshold is not None:
            agreement = correlation(train, val)
            if agreement is not None and agreement < self.corr_threshold:
                return MetaAction.SPAWN
        rise = line_fit(scores)[0] / (abs(float(scores.mean())) + TINY)
        return MetaAction.SPAWN if rise < self.improvement_threshold else MetaAction.NO_OP
