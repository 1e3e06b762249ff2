"""What a window's policy is worth: a window, its diagnostics and held-out episodes come in, scores go out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensor_optix.core.score_confidence import pooled

if TYPE_CHECKING:
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_evaluator import BaseEvaluator
    from tensor_optix.core.best_policy import BestPolicy
    from tensor_optix.core.types import EpisodeData, EvalMetrics
    from tensor_optix.core.validation import Validation


@dataclass(frozen=True)
class Assessment:
    """Two scores of one policy."""

    score: EvalMetrics
    """What the decisions of the loop rest on."""
    ranking: EvalMetrics
    """What the policy is ranked by: of more held-out episodes, where it may be the best."""


class Assessor:
    """Scores policies by a window, and by held-out episodes where there is a validation.

    Args:
        evaluator: Scores windows.
        validation: Plays held-out episodes, if there are any.
    """

    def __init__(self, evaluator: BaseEvaluator, validation: Validation | None) -> None:
        self._evaluator = evaluator
        self._validation = validation

    def validate(self, agent: BaseAgent, best: BestPolicy) -> Assessment | None:
        """Score the agent as it is in held-out episodes, and in more of them if it would be the best."""
        if self._validation is None:
            return None
        score = self._validation.score(agent)
        if not best.would_crown(score):
            return Assessment(score, score)
        return Assessment(score, pooled(score, self._validation.confirm()))

    def assess(
        self, episode: EpisodeData, diagnostics: dict[str, Any], held_out: Assessment | None
    ) -> Assessment:
        """Score a window; a held-out score is the one that counts."""
        train = self._evaluator.score(episode, diagnostics)
        if held_out is None:
            return Assessment(train, train)
        combine = self._evaluator.combine
        return Assessment(combine(train, held_out.score), combine(train, held_out.ranking))
