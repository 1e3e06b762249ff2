"""How far a run has come: windows and scores come in; counters, budget and reports go out."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tensor_optix.core.callbacks import WindowReport
from tensor_optix.core.types import EvalMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tensor_optix.core.types import EpisodeData, LoopState

logger = logging.getLogger(__name__)

MOST_HISTORY = 256
"""Evaluations that are remembered; the older half is forgotten when there are more, so that a run of days
does not fill the memory."""
EVALUATIONS_WITHOUT_EVIDENCE = 50
"""After so many evaluations without a finite score there is a warning, once."""


class RunState:
    """Steps, scores and clocks of one run.

    Args:
        score_smoothing: How many scores a smoothed one is the mean of.
        before: The run that this one goes on from, with the same counters.
    """

    def __init__(self, score_smoothing: int, before: RunState | None = None) -> None:
        self._first = 0 if before is None else before.next_window_id
        self.window_id = self._first
        self.total_steps: int = 0 if before is None else before.total_steps
        self.windows = 0
        """How many windows this run took."""
        self.history: list[EvalMetrics] = []
        """The evaluations that are evidence, oldest first."""
        self.smoothed: float | None = None
        """The mean of the last few scores, which is compared with the best; None: the window has no score."""
        self.improved = False
        """Whether the score of this window counts as an improvement."""
        self.seconds: float = 0.0 if before is None else before.seconds
        """Of training, as of the last window; between two runs the clock stands still."""
        self._started = time.perf_counter() - self.seconds
        self._recent: deque[float] = deque(maxlen=score_smoothing)
        self._without_evidence = 0

    @property
    def lacks_score(self) -> bool:
        """Whether the last evaluation came to nothing, as no episode finished: the next is due then."""
        return self._without_evidence > 0

    @property
    def next_window_id(self) -> int:
        """The number of the window after those that were taken."""
        return self._first + self.windows

    def enter(self, window: EpisodeData, collect_seconds: float) -> None:
        """Count a window, and what it took to collect it."""
        self.window_id = self.next_window_id
        self.windows += 1
        self.total_steps += window.num_steps
        self.smoothed, self.improved = None, False
        self._collect_seconds = collect_seconds

    def count_steps(self, num_steps: int) -> None:
        """Count environment steps beside those of windows."""
        self.total_steps += num_steps

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
        if len(self.history) == MOST_HISTORY:
            self.history = self.history[MOST_HISTORY // 2 :]
        self.history.append(metrics)
        self._recent.append(score)
        self.smoothed = sum(self._recent) / len(self._recent)

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, between two windows."""
        return {
            "first": self._first,
            "window_id": self.window_id,
            "total_steps": self.total_steps,
            "windows": self.windows,
            "history": [vars(metrics).copy() for metrics in self.history],
            "seconds": self.seconds,
            "recent": list(self._recent),
            "without_evidence": self._without_evidence,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; the clock goes on from the last window."""
        self._first = int(state["first"])
        self.window_id = int(state["window_id"])
        self.total_steps = int(state["total_steps"])
        self.windows = int(state["windows"])
        self.history = [EvalMetrics(**metrics) for metrics in state["history"]]
        self.seconds = float(state["seconds"])
        self._started = time.perf_counter() - self.seconds
        self._recent.clear()
        self._recent.extend(state["recent"])
        self._without_evidence = int(state["without_evidence"])

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
        self.seconds = time.perf_counter() - self._started
        return WindowReport(
            episode_id=self.window_id,
            num_steps=window.num_steps,
            total_steps=self.total_steps,
            seconds=self.seconds,
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


class Budget:
    """Tells how much of a run is left, and when another window could take more steps than it may make.

    Args:
        max_windows: What it may collect. None: as many as it likes.
        max_steps: The environment steps that it may make. None: as many as it likes.
        rows: The most steps of a window. None: those of the largest so far.

    Raises:
        ValueError: If not even one window is allowed.
    """

    def __init__(self, max_windows: int | None, max_steps: int | None, rows: int | None) -> None:
        self._caps = (max_windows, max_steps)
        self._windows = self._steps = 0
        self._rows = rows or 0
        if max_steps is not None and self._rows > max_steps:
            raise ValueError(
                f"max_steps must be at least one window, {rows} steps, got {max_steps}"
            )

    def count(self, num_steps: int) -> None:
        """Count a window."""
        self._windows += 1
        self._steps += num_steps
        self._rows = max(self._rows, num_steps)

    def count_steps(self, num_steps: int) -> None:
        """Count environment steps beside those of windows."""
        self._steps += num_steps

    def has_room(self, windows: int, num_steps: int) -> bool:
        """Whether so many windows, and so many steps beside them, may follow."""
        max_windows, max_steps = self._caps
        steps = windows * self._rows + num_steps
        has_windows = max_windows is None or self._windows + windows <= max_windows
        return has_windows and (max_steps is None or self._steps + steps <= max_steps)

    @property
    def is_spent(self) -> bool:
        """Whether no other window may follow, by the steps."""
        max_steps = self._caps[1]
        return max_steps is not None and self._rows > max_steps - self._steps

    def state_dict(self) -> dict[str, Any]:
        """Return what was spent."""
        return {"windows": self._windows, "steps": self._steps, "rows": self._rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, with the caps that this budget has."""
        self._windows, self._steps = int(state["windows"]), int(state["steps"])
        self._rows = int(state["rows"])

    @property
    def remaining(self) -> float:
        """The share of the run that is left: of the cap that is nearer its end; without caps 1."""
        used = zip(self._caps, (self._windows, self._steps), strict=True)
        return min(((cap - taken) / cap for cap, taken in used if cap is not None), default=1.0)
