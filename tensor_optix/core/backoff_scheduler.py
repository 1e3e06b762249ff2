"""When to evaluate, and what state the loop is in: scores come in, a `LoopState` goes out.

For each evaluation the loop asks `decide`. No clock, no agent and no file is touched here.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_left
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

import numpy as np

from tensor_optix.core.argument_checks import at_least, finite_number, in_unit_interval, integer
from tensor_optix.core.decisions.convergence import (
    NEGLIGIBLE_SHARE,
    PATIENCE,
    PlateauTest,
    plateau_test,
)
from tensor_optix.core.decisions.statistics import noise_std, rises_significantly
from tensor_optix.core.types import LoopState

logger = logging.getLogger(__name__)

MOST_SCORES = 10_000
"""Scores that are remembered; of more than these about half are left out."""
LATEST_SCORES = 1_000
"""All of the latest scores stay."""


def _setting(default: Any, least: int) -> Any:
    return field(default=default, metadata={"least": least})


@dataclass(frozen=True)
class SchedulerSettings:
    """When to evaluate, and what counts as a plateau, a degradation and an improvement.

    Raises:
        ValueError: If a value is of the wrong kind or out of its range.
    """

    base_interval: int = _setting(1, least=1)
    """Windows between evaluations while the score improves."""
    backoff_factor: float = _setting(2.0, least=1)
    """What a non-improving evaluation multiplies the interval by, rounded down."""
    max_interval_episodes: int = 100
    """The longest interval, in windows."""
    plateau_threshold: int = _setting(5, least=1)
    """Consecutive non-improving evaluations until COOLING."""
    dormant_threshold: int = _setting(20, least=1)
    """Consecutive non-improving evaluations until DORMANT."""
    degradation_threshold: float = 0.95
    """A score that falls short of the best by more than 1 minus this share of it is degraded."""
    min_degradation_drop: float = _setting(1e-4, least=0)
    """The least such fall in score units, for a best near 0."""
    min_episodes_before_dormant: int = _setting(0, least=0)
    """Evaluations before DORMANT may be declared."""
    min_episodes_before_degradation: int = _setting(5, least=0)
    """Evaluations before a score may be called degraded."""
    noise_k: float = _setting(2.0, least=0)
    """Standard deviations of the noise that an improvement must exceed."""
    score_window: int = _setting(20, least=3)
    """Recent scores from which the noise is measured."""
    trend_window: int = _setting(8, least=3)
    """Recent scores that can show a rise on their own."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            # With postponed annotations a field's type is its text.
            (integer if one.type == "int" else finite_number)(one.name, value)
            at_least(one.name, value, one.metadata.get("least", -math.inf))
        if self.max_interval_episodes < self.base_interval:
            raise ValueError(
                f"max_interval_episodes must be at least base_interval={self.base_interval}, "
                f"got {self.max_interval_episodes}"
            )
        in_unit_interval("degradation_threshold", self.degradation_threshold)


class Judgement(Enum):
    """What an evaluation was recorded as."""

    IMPROVEMENT = "improvement"
    NON_IMPROVEMENT = "non-improvement"
    SUSPICION = "suspicion"
    """A fall that the next evaluation confirms or clears."""
    DEGRADATION = "degradation"


class BackoffScheduler:
    """Evaluates ever more rarely while nothing improves, and declares DORMANT in the end.

    The arguments, by keyword or in order, are the fields of `SchedulerSettings`.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> from tensor_optix import BackoffScheduler
        >>> scheduler = BackoffScheduler(plateau_threshold=2, dormant_threshold=4)
        >>> for score in (10.0, 20.0, 20.0, 20.0, 20.0, 20.0):
        ...     judgement = scheduler.decide(score)
        ...     print(judgement.value, scheduler.current_state.value, scheduler.current_interval)
        improvement ACTIVE 1
        improvement ACTIVE 1
        non-improvement ACTIVE 2
        non-improvement COOLING 4
        non-improvement COOLING 8
        non-improvement DORMANT 16
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._settings = SchedulerSettings(*arguments, **named)
        self._state = LoopState.ACTIVE
        self._interval = self._settings.base_interval
        self._evaluations = 0
        self._non_improvements = 0  # since the last improvement or restart, as the next two
        self._has_degraded = False
        self._degraded_last = False  # nothing else was recorded since
        self._is_undecided = False  # the last score came by `record_score` and awaits its decision
        self._best: float | None = None
        self._scores: list[float] = []
        self._times: list[int] = []  # the window of each score
        self._windows = 0
        self._restarted_at = 0
        self._restarted_in = 0
        self._improved_in = 0

    # Names and defaults, for `inspect` and all who show signatures.
    __init__.__wrapped__ = SchedulerSettings.__init__  # type: ignore[attr-defined]

    @property
    def current_state(self) -> LoopState:
        """What the evaluations so far say."""
        return self._state

    @property
    def current_interval(self) -> int:
        """Windows from one evaluation to the next."""
        return self._interval

    @property
    def consecutive_non_improvements(self) -> int:
        """Evaluations since the last improvement."""
        return self._non_improvements

    @property
    def best_score(self) -> float | None:
        """The best score recorded as an improvement, None before the first. It never falls."""
        return self._best

    @property
    def total_episodes(self) -> int:
        """The number of evaluations counted."""
        return self._evaluations

    @property
    def settings(self) -> SchedulerSettings:
        """The arguments."""
        return self._settings

    @property
    def last_plateau_test(self) -> PlateauTest | None:
        """The test that DORMANT rests on; None where it rests on a counter alone."""
        return None

    def should_adapt(self, episode_count: int) -> bool:
        """Whether window `episode_count` is to be evaluated: each one, while a fall is in doubt."""
        self._windows = max(self._windows, episode_count)
        if episode_count == 0 or self._state is LoopState.WATCHDOG:
            return True
        return episode_count % self.current_interval == 0

    def decide(
        self,
        score: float,
        smoothed: float | None = None,
        *,
        improvement_margin: float = 0.0,
        may_rest: bool = True,
        may_degrade: bool = True,
    ) -> Judgement:
        """Judge an evaluation, and record it as that; `current_state` follows from it.

        Args:
            score: Raw: from these the noise is measured.
            smoothed: What is compared with the best. None: the score.
            improvement_margin: The least gain that is an improvement.
            may_rest: Whether DORMANT may be declared.
            may_degrade: Whether a deep fall counts as a degradation.
        """
        compared = score if smoothed is None else smoothed
        self.record_score(score)
        if self.is_improvement(compared, improvement_margin):
            self.record_improvement(compared)
            return Judgement.IMPROVEMENT
        if not may_degrade or not self.looks_degraded(compared):
            self.record_non_improvement(may_rest)
            return Judgement.NON_IMPROVEMENT
        if self._state is LoopState.WATCHDOG:
            self.record_degradation()
            return Judgement.DEGRADATION
        # Until the next evaluation confirms or clears it the interval stays.
        self._count_against()
        self._state = LoopState.WATCHDOG
        return Judgement.SUSPICION

    def record_score(self, score: float) -> None:
        """Take the score of an evaluation, before the decision on it. Not finite: ignored."""
        if not math.isfinite(score):
            logger.warning("the score %s is not finite: it is ignored", score)
            return
        self._keep(score)
        self._is_undecided = True

    def record_improvement(self, score: float) -> None:
        """Count an improving evaluation. Its score is kept, unless `record_score` took it already.

        A score that is not finite is no improvement and is counted as none.
        """
        if not math.isfinite(score):
            logger.warning("the score %s is not finite: it is no improvement", score)
            self.record_non_improvement()
            return
        if not self._is_undecided:
            self._keep(score)
        self._evaluations += 1
        self._begin_counting()
        self._best = float(score) if self._best is None else max(self._best, float(score))
        self._improved_in = self._times[-1]
        self._interval = self._settings.base_interval
        self._state = LoopState.ACTIVE

    def record_non_improvement(self, may_rest: bool = True) -> None:
        """Count an evaluation that improved nothing: the interval grows, the state may change.

        Without `may_rest` (the agent still explores) it is COOLING instead of DORMANT.
        """
        grown = int(self._interval * self._settings.backoff_factor)
        self._interval = min(grown, self._settings.max_interval_episodes)
        self._count_against()
        self._state = self._state_of_counter(may_rest)

    def record_degradation(self) -> None:
        """Record a degradation: ACTIVE, with the interval kept and no evaluation counted.

        It may follow `record_non_improvement` for the same score, or stand for it. Only the first
        since the last improvement has that effect, or a run that has collapsed would never stop.
        Any further one changes nothing, and counts as a non-improvement where it stands alone.
        """
        if not self._has_degraded:
            self._state = LoopState.ACTIVE
        elif self._is_undecided or self._degraded_last:
            self.record_non_improvement()
        self._has_degraded = self._degraded_last = True
        self._is_undecided = False

    def record_restart(self) -> None:
        """Begin anew with another policy: counter, interval and state; the best score is kept."""
        self._begin_counting()
        self._interval = self._settings.base_interval
        self._state = LoopState.ACTIVE
        self._restarted_at = len(self._scores)
        self._restarted_in = self._improved_in = self._windows

    def forget_scores(self) -> None:
        """Begin anew with scores of another kind, which must not be compared with those so far."""
        self._scores, self._times = [], []
        self._evaluations, self._best = 0, None
        self.record_restart()

    def noise(self) -> float:
        """Return the standard deviation of the recent scores around their local trend."""
        return noise_std(self._recent(self._settings.score_window))

    def margin(self, improvement_margin: float = 0.0) -> float:
        """Return the gain over the best that rules out luck.

        `max(improvement_margin, noise_k * noise)`, where the noise leaves the trend out: a steady
        rise has none.
        """
        return max(self._least_gain(improvement_margin), self._settings.noise_k * self.noise())

    def is_improvement(self, score: float, improvement_margin: float = 0.0) -> bool:
        """Whether a score is an improvement.

        It is one if it beats the best by more than the margin, or if it beats it by more than
        `improvement_margin` while the scores rise significantly: what is too small to stand out at
        once counts when it adds up. The first finite score always is one, an equal score never.
        """
        if not math.isfinite(score):
            return False
        if self._best is None:
            return True
        gain = score - self._best
        if gain <= self._least_gain(improvement_margin):
            return False
        return gain > self.margin(improvement_margin) or self.is_improving()

    def is_improving(self) -> bool:
        """Whether the last `trend_window` or the last `score_window` scores rise significantly."""
        settings = self._settings
        windows = {settings.trend_window, settings.score_window}
        return any(rises_significantly(self._recent(length)) for length in windows)

    def check_degradation(self, score: float) -> bool:
        """Whether `score < best - max(|best| * (1 - degradation_threshold), min_degradation_drop)`.

        Never before there is a best, nor before `min_episodes_before_degradation` evaluations.
        """
        settings = self._settings
        if self._best is None or self._evaluations < settings.min_episodes_before_degradation:
            return False
        share = abs(self._best) * (1.0 - settings.degradation_threshold)
        return score < self._best - max(share, settings.min_degradation_drop)

    def looks_degraded(self, score: float) -> bool:
        """Whether `check_degradation` holds, and the noise alone does not explain the fall.

        The best score is itself a lucky one, about `noise_k` deviations up, so a fall has to be
        deeper than `2.5 * noise_k` of them.
        """
        if not self.check_degradation(score) or self._best is None:
            return False
        return score < self._best - 2.5 * self._settings.noise_k * self.noise()

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, as JSON values."""
        return {
            "state": self._state.value,
            "interval": self._interval,
            "evaluations": self._evaluations,
            "non_improvements": self._non_improvements,
            "has_degraded": self._has_degraded,
            "degraded_last": self._degraded_last,
            "best": self._best,
            "scores": list(self._scores),
            "times": list(self._times),
            "is_undecided": self._is_undecided,
            "windows": self._windows,
            "restarted_at": self._restarted_at,
            "restarted_in": self._restarted_in,
            "improved_in": self._improved_in,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            ValueError: If a score is not finite, or the scores and their times do not belong together.
        """
        scores = [finite_number("a score", score) for score in state["scores"]]
        times = [int(time) for time in state["times"]]
        if len(times) != len(scores):
            raise ValueError(f"there must be {len(scores)} times of scores, got {len(times)}")
        self._scores, self._times = scores, times
        self._best = None if state["best"] is None else finite_number("best", state["best"])
        self._state = LoopState(state["state"])
        self._interval = int(state["interval"])
        self._evaluations = int(state["evaluations"])
        self._non_improvements = int(state["non_improvements"])
        self._has_degraded = bool(state["has_degraded"])
        self._degraded_last = bool(state["degraded_last"])
        self._is_undecided = bool(state["is_undecided"])
        self._windows = int(state["windows"])
        self._restarted_at = int(state["restarted_at"])
        self._restarted_in = int(state["restarted_in"])
        self._improved_in = int(state["improved_in"])

    def _keep(self, score: float) -> None:
        """Keep a score with its time: the window last asked about, or where none was, the next number."""
        latest = self._times[-1] + 1 if self._times else 0
        self._scores.append(float(score))
        self._times.append(max(latest, self._windows))
        if len(self._scores) > MOST_SCORES:
            self._thin_out()

    def _thin_out(self) -> None:
        """Leave older scores out, so that the first and others at even distances in time are left."""
        older = np.array(self._times[:-LATEST_SCORES])
        places = np.searchsorted(older, np.linspace(older[0], older[-1], MOST_SCORES // 2))
        kept = [*np.unique(places).tolist(), *range(len(older), len(self._times))]
        self._scores = [self._scores[i] for i in kept]
        self._times = [self._times[i] for i in kept]
        self._restarted_at = bisect_left(kept, self._restarted_at)

    def _begin_counting(self) -> None:
        """Count what comes since an improvement, or a restart."""
        self._non_improvements = 0
        self._has_degraded = self._degraded_last = self._is_undecided = False

    def _count_against(self) -> None:
        self._evaluations += 1
        self._non_improvements += 1
        self._degraded_last = self._is_undecided = False

    def _recent(self, length: int) -> list[float]:
        return self._scores[max(self._restarted_at, len(self._scores) - length) :]

    def _least_gain(self, improvement_margin: float) -> float:
        return improvement_margin

    def _state_of_counter(self, may_rest: bool) -> LoopState:
        finished = self._is_finished()
        enough = self._evaluations >= self._settings.min_episodes_before_dormant
        if finished and enough and may_rest:
            return LoopState.DORMANT
        # Held back it is COOLING, whatever the plateau threshold.
        cooling = finished or self.consecutive_non_improvements >= self._settings.plateau_threshold
        return LoopState.COOLING if cooling else LoopState.ACTIVE

    def _is_finished(self) -> bool:
        return self.consecutive_non_improvements >= self._settings.dormant_threshold


_INTERVAL_ARGUMENTS = ("base_interval", "backoff_factor", "max_interval_episodes")
_WINDOWS_PER_INTERVAL = 50
_LEAST_PATIENCE = 20
_PATIENCE_SHARE = 3 / 4


class AutoScheduler(BackoffScheduler):
    """A `BackoffScheduler` that picks what the user left open.

    * Interval: that of the backoff, but no more than 2 % of the windows since the last restart. Passing
      any of `base_interval`, `backoff_factor` or `max_interval_episodes` fixes it.
    * DORMANT: when an evaluation that improved nothing meets a plateau (`plateau_test`), or when a long run
      only wanders about its best, or when 20 of them in a row took three quarters of the time so far,
      unless block means still rise: one lucky score, too good to be beaten, must not end a rising run.
      While nothing has been gained yet, 160 instead of 20. Time is counted in windows. Passing
      `dormant_threshold` fixes it and switches the test off.
    * A degradation is deeper than the noise explains. Fixed by `degradation_threshold`.
    * An improvement is at least 1 % of what was gained so far, so that an endless creep has an end;
      not so with `dormant_threshold`.

    Args:
        **given: Arguments of `BackoffScheduler`; None means "auto", as does leaving one out.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, **given: Any) -> None:
        given = {name: value for name, value in given.items() if value is not None}
        super().__init__(**given)
        self._paces_itself = not any(name in given for name in _INTERVAL_ARGUMENTS)
        self._stops_itself = "dormant_threshold" not in given
        self._judges_falls_itself = "degradation_threshold" not in given
        self._test: PlateauTest | None = None
        self._tested: tuple[list[int], int] = ([], 0)

    @property
    def current_interval(self) -> int:
        """Windows from one evaluation to the next, as of the last window asked about."""
        interval = super().current_interval
        if not self._paces_itself:
            return interval
        since = self._windows - self._restarted_in
        return max(1, min(interval, since // _WINDOWS_PER_INTERVAL))

    @property
    def last_plateau_test(self) -> PlateauTest | None:
        """The plateau test of the scores so far; None where `dormant_threshold` switched it off."""
        if not self._stops_itself:
            return None
        now = (self._times[-1:], self._restarted_at)
        if self._test is None or self._tested != now:
            self._test = plateau_test(self._scores, self._restarted_at, self._times)
            self._tested = now
        return self._test

    def looks_degraded(self, score: float) -> bool:
        """Whether the score has fallen deeper than its noise explains.

        With a `degradation_threshold` of the user's, `check_degradation` is enough.
        """
        if self._judges_falls_itself:
            return super().looks_degraded(score)
        return self.check_degradation(score)

    def forget_scores(self) -> None:
        """Begin anew with scores of another kind, which must not be compared with those so far."""
        super().forget_scores()
        self._test = None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        super().load_state_dict(state)
        self._test = None

    def _least_gain(self, improvement_margin: float) -> float:
        test = self.last_plateau_test
        if test is None or not test.has_gained:
            return improvement_margin
        return max(improvement_margin, NEGLIGIBLE_SHARE * test.gain)

    def _is_finished(self) -> bool:
        test = self.last_plateau_test
        if test is None:
            return super()._is_finished()
        if test.is_plateau or test.only_wanders:
            return True
        least = _LEAST_PATIENCE if test.has_gained else _LEAST_PATIENCE * PATIENCE
        if self.consecutive_non_improvements < least or test.still_rising:
            return False
        now = self._times[-1]
        waited, whole = now - self._improved_in, now - self._restarted_in
        return waited >= _PATIENCE_SHARE * whole
