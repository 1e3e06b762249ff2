"""What a display, the curve and the report show of a run: reports and events come in, figures go out."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, replace
from itertools import groupby
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.callbacks import (
    Baseline,
    Best,
    Chosen,
    Degradation,
    Dormant,
    Error,
    Finals,
    Forked,
    Forking,
    Looked,
    LoopCallback,
    LoopEvent,
    Plateau,
    Recovered,
    Rescored,
    Resumed,
    Rollback,
    Standstill,
    Stop,
    Tuned,
    Unsaved,
    WindowReport,
)
from tensor_optix.core.decisions.convergence import PlateauTest
from tensor_optix.core.types import LoopState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SPEED_SECONDS = 10.0
"""The speed shown is that of the last so many seconds."""


@dataclass(frozen=True, kw_only=True)
class Surer(LoopEvent):
    """A new best policy whose score is not the highest so far: more episodes speak for it."""

    kind = "surer"
    score: float
    episodes: int = 0


_SHOWN = (
    Looked
    | Chosen
    | Rescored
    | Degradation
    | Rollback
    | Recovered
    | Finals
    | Forked
    | Forking
    | Dormant
    | Error
    | Resumed
    | Unsaved
)
_KINDS = {one.kind: one for one in (Baseline, Best, Surer, Plateau, Tuned, *_SHOWN.__args__)}
MOST_POINTS = 2_000
"""Points of a curve that are kept; every second one is left out when there are more, so that a run of days
does not fill the memory."""


@dataclass(frozen=True)
class Decision:
    """A decision of the loop, and when it was taken."""

    event: LoopEvent
    seconds: float

    @property
    def kind(self) -> str:
        """What the decision is called."""
        return self.event.kind

    @property
    def total_steps(self) -> int:
        """Environment steps until then."""
        return self.event.total_steps


MOST_DECISIONS = 10_000
"""Decisions that are kept."""


class TrainingRecord(LoopCallback):
    """Keeps the scores and decisions of a run. Is to be called before the displays that show them.

    Args:
        clock: Tells the time in seconds.
        most_points: Points of a curve that are kept.
    """

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, most_points: int = MOST_POINTS
    ) -> None:
        self._clock, self._most_points = clock, most_points
        self._begun = clock()
        self._recent: deque[tuple[float, int]] = deque([(0.0, 0)])
        self._highest = -math.inf
        self.last: WindowReport | None = None
        self._before = (0, LoopState.ACTIVE)
        self.steps: list[int] = []
        """Environment steps at each score."""
        self.scores: list[float] = []
        self.bests: list[float] = []
        """The best score as it stood with each score."""
        self.learning_steps: list[int] = []
        """Environment steps at each window that was learned from."""
        self.learning: dict[str, list[float]] = {}
        """What `learn` returned there, by name; NaN where it did not say."""
        self.decisions: list[Decision] = []
        self.stop: Stop | None = None
        """How the run ended."""
        self.is_per_step = False
        """Whether the scores are mean rewards a step, as no episode ends."""
        self._accepted: dict[str, Any] | None = None
        self._forked_until = 0

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return self._clock() - self._begun

    @property
    def total_steps(self) -> int:
        """Environment steps so far."""
        in_windows = self._before[0] if self.last is None else self.last.total_steps
        # The last comparison of forks ends after the last window.
        return max(in_windows, self._forked_until)

    @property
    def state(self) -> LoopState:
        """What the loop believed after the last window."""
        return self._before[1] if self.last is None else self.last.state

    @property
    def diagnostics(self) -> Mapping[str, Any]:
        """What `learn` returned for the last window."""
        return {} if self.last is None else self.last.diagnostics

    @property
    def steps_per_second(self) -> float:
        """The speed of the last seconds."""
        (begun, before), (ended, after) = self._recent[0], self._recent[-1]
        return (after - before) / (ended - begun) if ended > begun else 0.0

    @property
    def best_decision(self) -> Decision | None:
        """When the best policy was found."""
        found = (
            one
            for one in reversed(self.decisions)
            if isinstance(one.event, Baseline | Best | Surer)
        )
        return next(found, None)

    def on_loop_start(self) -> None:
        """Start the clock."""
        self._begun = self._clock()

    def on_window(self, report: WindowReport) -> None:
        """Keep a window."""
        self.last = report
        self._recent.append((report.seconds, report.total_steps))
        while len(self._recent) > 2 and self._recent[0][0] < report.seconds - SPEED_SECONDS:
            self._recent.popleft()
        self._take_diagnostics(report)
        if report.score is not None:
            self.steps.append(report.total_steps)
            self.scores.append(report.score)
            self.bests.append(report.score if report.best is None else report.best)
            if len(self.steps) > self._most_points:
                # Of an odd number, so that the first and the last one stay.
                self.steps, self.scores = self.steps[::2], self.scores[::2]
                self.bests = self.bests[::2]

    def on_event(self, event: LoopEvent) -> None:
        """Keep a decision. Of a series of plateaus only the first is one."""
        match event:
            case Stop():
                self.stop = event
            case Resumed(total_steps=steps, state=state):
                self._before = (steps, LoopState(state))
                self._recent = deque([(self.seconds, steps)])
                self._show(event)
            case Baseline() | Best():
                self._take_best(event)
            case Tuned():
                self._take_tuned(event)
            case Rescored(per_step=per_step):
                self._forget_scores()
                self.is_per_step = per_step
                self._show(event)
            case Forked(total_steps=steps):
                self._forked_until = steps
                self._show(event)
            case Plateau() if self.state is not LoopState.COOLING:
                self._show(event)
            case _ if isinstance(event, _SHOWN):
                self._show(event)

    def state_dict(self) -> dict[str, Any]:
        """Return the record so far."""
        return {
            "seconds": self.seconds,
            "highest": self._highest,
            "curve": np.array([self.steps, self.scores, self.bests], np.float64),
            "learning_steps": np.array(self.learning_steps, np.int64),
            "learning": {name: np.array(series) for name, series in self.learning.items()},
            "decisions": [_plain(made) for made in self.decisions],
            "is_per_step": self.is_per_step,
            "accepted": self._accepted,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with what `state_dict` returned."""
        self._begun = self._clock() - float(state["seconds"])
        self._highest = float(state["highest"])
        steps, self.scores, self.bests = state["curve"].tolist()
        self.steps = [int(step) for step in steps]
        self.learning_steps = state["learning_steps"].tolist()
        self.learning = {name: series.tolist() for name, series in state["learning"].items()}
        self.decisions = [_made(plain) for plain in state["decisions"]]
        self.is_per_step = bool(state["is_per_step"])
        self._accepted = state["accepted"]

    def _forget_scores(self) -> None:
        self.steps, self.scores, self.bests = [], [], []
        self._highest = -math.inf

    def _take_best(self, event: Baseline | Best) -> None:
        is_highest = event.score > self._highest
        self._highest = max(self._highest, event.score)
        place, score = (event.episode_id, event.total_steps), event.score
        surer = Surer(*place, score=score, episodes=event.episodes)
        self._show(event if is_highest else surer)

    def _take_tuned(self, event: Tuned) -> None:
        """Keep hyperparameters that were accepted; experiments are only in the log."""
        before = event.before if self._accepted is None else self._accepted
        self._accepted = event.accepted or before
        if self._accepted != before:
            self._show(replace(event, before=before, effective=self._accepted))

    def _show(self, event: LoopEvent) -> None:
        self.decisions.append(Decision(event, self.seconds))
        if len(self.decisions) > MOST_DECISIONS:
            # The first ones tell how it began; the log has them all.
            del self.decisions[MOST_DECISIONS // 10 : MOST_DECISIONS // 2]

    def _take_diagnostics(self, report: WindowReport) -> None:
        for name in (*self.learning, *report.diagnostics):
            series = self.learning.setdefault(name, [])
            series += [math.nan] * (len(self.learning_steps) - len(series))
        self.learning_steps.append(report.total_steps)
        for name, series in self.learning.items():
            value = report.diagnostics.get(name)
            series.append(float(value) if isinstance(value, Real | np.number) else math.nan)
        if len(self.learning_steps) > self._most_points:
            self.learning_steps = self.learning_steps[::2]
            self.learning = {name: series[::2] for name, series in self.learning.items()}


def _plain(made: Decision) -> dict[str, Any]:
    """Return a decision as plain values."""
    fields = vars(made.event).copy()
    if isinstance(made.event, Standstill) and made.event.plateau_test is not None:
        fields["plateau_test"] = vars(made.event.plateau_test).copy()
    return {"kind": made.kind, "seconds": made.seconds, "fields": fields}


def _made(plain: dict[str, Any]) -> Decision:
    """Return the decision that `_plain` was given."""
    fields = dict(plain["fields"])
    if fields.get("plateau_test") is not None:
        fields["plateau_test"] = PlateauTest(**fields["plateau_test"])
    return Decision(_KINDS[plain["kind"]](**fields), float(plain["seconds"]))


def _kind(made: Decision) -> tuple[str, str]:
    return made.kind, made.event.option if isinstance(made.event, Chosen) else ""


def merged(decisions: Sequence[Decision]) -> list[tuple[Decision, int]]:
    """Return the decisions with each series of one kind as its last one and their number."""
    series = (list(group) for _, group in groupby(decisions, key=_kind))
    return [(group[-1], len(group)) for group in series]
