"""What a score means: a score and its smoothed form come in, one decision is recorded and goes out."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from tensor_optix.core.types import LoopState

if TYPE_CHECKING:
    from tensor_optix.core.backoff_scheduler import BackoffScheduler


class Judgement(Enum):
    """What an evaluation was recorded as."""

    IMPROVEMENT = "improvement"
    NON_IMPROVEMENT = "non-improvement"
    SUSPICION = "suspicion"
    """A fall that the next evaluation confirms or clears."""
    DEGRADATION = "degradation"


def judge(
    scheduler: BackoffScheduler,
    score: float,
    smoothed: float,
    *,
    improvement_margin: float = 0.0,
    may_rest: bool = True,
    may_degrade: bool = True,
) -> Judgement:
    """Record an evaluation in the scheduler, as what its statistics say that it is.

    Args:
        scheduler: Its `current_state` follows from what is recorded.
        score: Raw: from these the noise is measured.
        smoothed: What is compared with the best.
        improvement_margin: The least gain that is an improvement.
        may_rest: Whether DORMANT may be declared.
        may_degrade: Whether a deep fall counts as a degradation.
    """
    scheduler.record_score(score)
    if scheduler.is_improvement(smoothed, improvement_margin):
        scheduler.record_improvement(smoothed)
        return Judgement.IMPROVEMENT
    if not may_degrade or not scheduler.looks_degraded(smoothed):
        scheduler.record_non_improvement(may_rest=may_rest)
        return Judgement.NON_IMPROVEMENT
    if scheduler.current_state is LoopState.WATCHDOG:
        scheduler.record_degradation()
        return Judgement.DEGRADATION
    scheduler.record_suspicion()
    return Judgement.SUSPICION
