"""What one run of the loop has seen so far: windows and scores come in, reports go out."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensor_optix.core.callbacks import WindowReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tensor_optix.core.types import EpisodeData, EvalMetrics, LoopState

logger = logging.getLogger(__name__)

EVALUATIONS_WITHOUT_EVIDENCE = 50
"""After so many evaluations without a finite score the user is told, once."""


@dataclass
class Outcome:
    """What an evaluation came to."""

    score: float
    smoothed: float
    """The mean of the last few scores: what is compared with the best."""
    improved: bool = False


class RunState:
    """Steps, scores and clocks of one run.

    Args:
        score_smoothing: How many scores a smoothed one is the mean of.
    """

    def __init__(self, score_smoothing: int) -> None:
        self.episode_id = 0
        self.total_steps = 0
        self.history: list[EvalMetrics] = []
        self._started = time.perf_counter()
        self._recent: deque[float] = deque(maxlen=score_smoothing)
        self._without_evidence = 0

    @property
    def lacks_score(self) -> bool:
        """Whether the last evaluation came to nothing, as no episode finished: the next is due then."""
        return self._without_evidence > 0

    def enter(self, episode: EpisodeData, episode_id: int, collect_seconds: float) -> None:
        """Count a window, and what it took to collect it."""
        self.episode_id = episode_id
        self.total_steps += episode.num_steps
        self._collect_seconds = collect_seconds

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Measure how long learning takes."""
        begun = time.perf_counter()
        yield
        self._learn_seconds = time.perf_counter() - begun

    def take_score(self, metrics: EvalMetrics) -> Outcome | None:
        """Take an evaluation; None if its score is not finite, and so no evidence."""
        score = metrics.primary_score
        if not math.isfinite(score):
            self._note_missing_evidence()
            return None
        self._without_evidence = 0
        self.history.append(metrics)
        self._recent.append(score)
        return Outcome(score, sum(self._recent) / len(self._recent))

    def forget_recent(self) -> None:
        """Smooth anew: the next score is another policy's."""
        self._recent.clear()

    def report(
        self,
        episode: EpisodeData,
        outcome: Outcome | None,
        loop: tuple[float | None, LoopState, int],
        diagnostics: dict[str, Any],
    ) -> WindowReport:
        """Return the figures of the window that just ended.

        Args:
            episode: The window.
            outcome: Of its evaluation, if there was one.
            loop: The best score, the state, and the interval that was in force.
            diagnostics: What `learn` returned.
        """
        return WindowReport(
            episode_id=self.episode_id,
            num_steps=episode.num_steps,
            total_steps=self.total_steps,
            seconds=time.perf_counter() - self._started,
            collect_seconds=self._collect_seconds,
            learn_seconds=self._learn_seconds,
            score=outcome.score if outcome else None,
            smoothed=outcome.smoothed if outcome else None,
            best=loop[0],
            state=loop[1],
            interval=loop[2],
            improved=outcome.improved if outcome else False,
            diagnostics=diagnostics,
        )

    def _note_missing_evidence(self) -> None:
        self._without_evidence += 1
        if self._without_evidence == EVALUATIONS_WITHOUT_EVIDENCE:
            logger.warning(
                "no finite score in %d evaluations: no episode finishes, or the score is NaN. For a "
                "task without episodes give the evaluator a primary_score_fn",
                EVALUATIONS_WITHOUT_EVIDENCE,
            )
