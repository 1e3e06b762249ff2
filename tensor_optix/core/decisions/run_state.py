"""What one run of the loop has seen so far: windows and scores come in, reports go out."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tensor_optix.core.callbacks import WindowReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tensor_optix.core.types import EpisodeData, EvalMetrics, LoopState

logger = logging.getLogger(__name__)

EVALUATIONS_WITHOUT_EVIDENCE = 50
"""After so many evaluations without a finite score there is a warning, once."""


class RunState:
    """Steps, scores and clocks of one run.

    Args:
        score_smoothing: How many scores a smoothed one is the mean of.
    """

    def __init__(self, score_smoothing: int) -> None:
        self.window_id = 0
        self.total_steps = 0
        self.history: list[EvalMetrics] = []
        """The evaluations that are evidence, oldest first."""
        self.smoothed: float | None = None
        """The mean of the last few scores, which is compared with the best; None: the window has no score."""
        self.improved = False
        """Whether the score of this window counts as an improvement."""
        self._started = time.perf_counter()
        self._recent: deque[float] = deque(maxlen=score_smoothing)
        self._without_evidence = 0

    @property
    def lacks_score(self) -> bool:
        """Whether the last evaluation came to nothing, as no episode finished: the next is due then."""
        return self._without_evidence > 0

    def enter(self, window: EpisodeData, window_id: int, collect_seconds: float) -> None:
        """Count a window, and what it took to collect it."""
        self.window_id = window_id
        self.total_steps += window.num_steps
        self.smoothed, self.improved = None, False
        self._collect_seconds = collect_seconds

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Measure how long learning takes."""
        begun = time.perf_counter()
        yield
        self._learn_seconds = time.perf_counter() - begun

    def take_score(self, metrics: EvalMetrics) -> None:
        """Take the evaluation of this window. A score that is not finite is no evidence."""
        score = metrics.primary_score
        if not math.isfinite(score):
            self._note_missing_evidence()
            return
        self._without_evidence = 0
        self.history.append(metrics)
        self._recent.append(score)
        self.smoothed = sum(self._recent) / len(self._recent)

    def forget_recent(self) -> None:
        """Smooth anew: the next score is another policy's."""
        self._recent.clear()

    def report(
        self,
        window: EpisodeData,
        diagnostics: dict[str, Any],
        best: float | None,
        state: LoopState,
        interval: int,
    ) -> WindowReport:
        """Return the figures of the window that just ended.

        Args:
            window: Itself.
            diagnostics: What `learn` returned.
            best: The best score.
            state: That of the loop.
            interval: The one that was in force.
        """
        return WindowReport(
            episode_id=self.window_id,
            num_steps=window.num_steps,
            total_steps=self.total_steps,
            seconds=time.perf_counter() - self._started,
            collect_seconds=self._collect_seconds,
            learn_seconds=self._learn_seconds,
            score=None if self.smoothed is None else self.history[-1].primary_score,
            smoothed=self.smoothed,
            best=best,
            state=state,
            interval=interval,
            improved=self.improved,
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
