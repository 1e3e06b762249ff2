"""Which policy of a run is the best: weights and the score they made come in, the registry keeps the best.

The score of a window belongs to the weights that collected it, so these are put aside before they learn
from it. A candidate is ranked by a lower confidence bound, so that one lucky episode crowns nobody.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tensor_optix.core.base_evaluator import SCORE_COUNT, SCORE_STD

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.checkpoint_registry import CheckpointRegistry
    from tensor_optix.core.snapshot_store import StagedSnapshot
    from tensor_optix.core.types import EvalMetrics, HyperparamSet, PolicySnapshot
logger = logging.getLogger(__name__)

PRIOR_EPISODES = 4
"""How many episodes the variance of earlier windows counts for."""

NEGLIGIBLE_GAIN = 1e-3
"""A bound that is higher by less than this share, for no higher a score, is not worth a checkpoint."""


@dataclass(frozen=True)
class Candidate:
    """The weights that collected a window, before they learn from it."""

    staged: StagedSnapshot
    hyperparams: HyperparamSet
    external_score: float | None

    @property
    def has_external_score(self) -> bool:
        """Whether an external score ranks it, one that is a number."""
        return self.external_score is not None and math.isfinite(self.external_score)


class ScoreConfidence:
    """Turns a mean return into a lower bound, one standard error down.

    The variance of episode returns is shrunk towards that of earlier windows: a window may hold a single
    episode.
    """

    def __init__(self) -> None:
        self._variance: float | None = None

    def lower_bound(self, metrics: EvalMetrics) -> float:
        """Return `score - sqrt(variance / K)`; the plain score where it is no mean of K others."""
        prefix = "val_" if "val_score" in metrics.metrics else ""
        count = metrics.metrics.get(prefix + SCORE_COUNT, 0)
        std = metrics.metrics.get(prefix + SCORE_STD, math.nan)
        if count < 1 or not math.isfinite(std):
            return metrics.primary_score
        variance = std**2
        if self._variance is not None:
            variance = (PRIOR_EPISODES * self._variance + count * variance) / (
                PRIOR_EPISODES + count
            )
        self._variance = variance
        return metrics.primary_score - math.sqrt(variance / count)


class BestPolicy:
    """Puts candidates aside, crowns the best, and gives it back.

    Args:
        registry: Keeps the files.
        score_fn: `fn(agent) -> float` that ranks instead of the score. None: the score's lower bound.
    """

    def __init__(
        self, registry: CheckpointRegistry, score_fn: Callable[[BaseAgent], float] | None = None
    ) -> None:
        self._registry = registry
        self._score_fn = score_fn
        self._confidence = ScoreConfidence()
        self._has_begun = False
        self._rank = -math.inf
        self.snapshot: PolicySnapshot | None = None
        """The best policy so far."""

    @property
    def score(self) -> float | None:
        """The best policy's score; None before there is one."""
        return None if self.snapshot is None else self.snapshot.eval_metrics.primary_score

    @property
    def rank(self) -> float:
        """What the best policy was ranked by."""
        return self._rank

    def begin(self) -> None:
        """Begin a run in the registry, the first time."""
        if not self._has_begun:
            self._registry.begin_run()
            self._has_begun = True

    def stage(self, agent: BaseAgent) -> Candidate:
        """Put the agent's present state aside."""
        external = None if self._score_fn is None else float(self._score_fn(agent))
        return Candidate(self._registry.stage(agent), agent.get_hyperparams(), external)

    def discard(self, candidate: Candidate) -> None:
        """Forget a candidate."""
        self._registry.discard(candidate.staged)

    def offer(self, candidate: Candidate, metrics: EvalMetrics) -> bool:
        """Crown the candidate if it is better than the best; return whether it was."""
        if candidate.external_score is None:
            rank = self._confidence.lower_bound(metrics)
        else:
            rank = candidate.external_score
        if not rank > self._rank + self._least_gain(candidate, metrics):
            self.discard(candidate)
            return False
        try:
            self.snapshot = self._registry.commit(
                candidate.staged, metrics, candidate.hyperparams, score=rank
            )
        except BaseException:
            self.discard(candidate)
            raise
        self._rank = rank
        return True

    def _least_gain(self, candidate: Candidate, metrics: EvalMetrics) -> float:
        is_own_score = candidate.external_score is None
        if self.score is None or not is_own_score or metrics.primary_score > self.score:
            return 0.0
        return NEGLIGIBLE_GAIN * abs(self._rank)

    def restore(self, agent: BaseAgent) -> PolicySnapshot | None:
        """Put the best policy into the agent, with its hyperparameters; None if there is none."""
        return self._registry.load_best(agent)
