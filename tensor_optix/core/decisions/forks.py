"""Forks: learners go on from one moment, each with its own hyperparameters, and the best of them goes on.

Successive halving (Jamieson & Talwalkar 2016, algorithm 1) among learners that share their past, as the
members of a population do that copy the best (Jaderberg et al. 2017). One agent is all of them in turn.
Weights, optimizers, normalizers and random generators are put aside for each; rows of a replay are shared,
as those of any policy can be learned from.
"""

from __future__ import annotations

import logging
import math
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_optimizer import ForkPlan
    from tensor_optix.core.types import Array, HyperparamSet

logger = logging.getLogger(__name__)

CONFIDENCE = 0.975
"""With which a gain must be above 0."""
EPISODES = (8, 20)
"""The least and the most that forks are compared in."""
PLAY_SHARE = 0.1
"""More than the least only as far as they take less than this share of the steps so far."""
CONFIRMATION = 3
"""Times as many decide whether what looks like a gain over the best policy is one."""


class RaceOver(Exception):
    """No further window may be learned from: the run was asked to stop, or its budget is spent."""


class NotPutAside(RuntimeError):
    """The disk did not take a learner: nothing is tried."""


@dataclass(frozen=True)
class RaceResult:
    """What came of forks."""

    scores: tuple[float, ...]
    """The mean return of each when it was compared last; NaN where it never was, or broke down."""
    windows: tuple[int, ...]
    """How many each learned from."""
    winner: int
    """Which of them goes on: unless one has gained, the first, with the hyperparameters of before."""
    gain: float
    """The mean return of the best, minus that of what it had to beat, in the same episodes."""
    error: float
    """Its standard error, of the differences episode by episode."""
    has_gained: bool
    """Whether what goes on is better than what it had to beat."""


@dataclass(frozen=True)
class Contest:
    """What a race asks of the run."""

    learn: Callable[[], Mapping[str, Any] | None]
    """Lets the agent learn from one window; returns its diagnostics, None where learning broke down. Raises
    RaceOver."""
    renew: Callable[[], None]
    """Begins fresh episodes with the agent as it is now."""
    play: Callable[[int], Array | None]
    """`fn(episodes)` returns `[episodes]` returns of the agent's greedy policy, in the same ones each time;
    more of them are these and others. None where one does not end."""
    play_best: Callable[[int], Array | None] | None
    """The same of the best policy so far, which the agent is then, and which is to be beaten for sure. None:
    it is enough to be better than the present hyperparameters."""
    least_gain: float
    """A smaller gain over the best policy is none: small shares come by chance, and have no end."""
    episodes: int
    """How many are compared."""


@dataclass(eq=False)
class _Lane:
    """One of the learners, while the agent is another."""

    params: HyperparamSet
    path: Path
    run_state: dict[str, Any]
    windows: int = 0
    returns: Array | None = None
    """Of its last comparison; None before it, and where its learning broke down."""
    figures: list[float] = field(default_factory=list)
    """What `learn` returned of the figure that the plan asks for, since the comparison before."""

    @property
    def score(self) -> float:
        """The mean of these returns."""
        return math.nan if self.returns is None else float(self.returns.mean())


class Race:
    """Lets learners go on from the one that an agent is.

    Args:
        agent: Is each of them in turn, and in the end the one that goes on.
        plan: What they are to try.
        contest: Lets them learn and play.
        place: An empty directory, for what is put aside.
    """

    def __init__(self, agent: BaseAgent, plan: ForkPlan, contest: Contest, place: Path) -> None:
        self._agent = agent
        self._plan = plan
        self._contest = contest
        self._place = place

    def run(self) -> RaceResult | None:
        """Let them learn, compare and sift them, until one is left beside the present; None: cut short.

        However it ends, the agent is one of them then, in fresh episodes; where an exception leaves, it is
        what it was.

        Raises:
            NotPutAside: If the disk is full, say.
        """
        start = self._put_aside("start", self._plan.candidates[0])
        lanes = [_Lane(params, start.path, start.run_state) for params in self._plan.candidates]
        try:
            reference = self._reference()
            self._sift(lanes)
            result = self._judged(lanes, reference)
        except RaceOver:
            self._become(lanes[0])
            self._contest.renew()
            return None
        except BaseException:
            self._become(start)
            raise
        self._become(lanes[result.winner])
        self._contest.renew()
        return result

    def _reference(self) -> Array | None:
        play_best = self._contest.play_best
        return None if play_best is None else play_best(self._contest.episodes)

    def _sift(self, lanes: Sequence[_Lane]) -> None:
        """Let all lanes learn, then the best third of the new ones twice as long, and so on."""
        present, *others = lanes
        windows = self._plan.windows
        while others:
            for lane in (present, *others):
                self._advance(lane, windows)
            others = self._ranked([one for one in others if one.returns is not None])
            others = others[: _left_of(len(others))]
            windows *= 2

    def _ranked(self, lanes: list[_Lane]) -> list[_Lane]:
        """Return lanes, the best first; the order of the plan, if it has one, decides what is in doubt."""
        ranked = sorted(lanes, key=_worst_last)
        if not (ranked and self._plan.is_ordered):
            return ranked
        rivals = [one for one in lanes if not _Gain.of(ranked[0].returns, one.returns).is_sure]
        ordinary = self._plan.ordinary
        if ordinary is not None:
            rivals.sort(key=lambda lane: ordinary.distance(lane.figures))
        return [*rivals, *(one for one in ranked if one not in rivals)]

    def _advance(self, lane: _Lane, windows: int) -> None:
        if lane.windows and lane.returns is None:
            return
        lane.returns = None
        try:
            self._become(lane)
        except ValueError as error:
            logger.warning("the agent refused the hyperparameters of a fork: %s", error)
            return
        self._contest.renew()
        lane.figures, ordinary = [], self._plan.ordinary
        for _ in range(windows):
            lane.windows += 1
            diagnostics = self._contest.learn()
            if diagnostics is None:
                return
            if ordinary is not None:
                lane.figures.append(float(diagnostics.get(ordinary.figure, math.nan)))
        kept = self._put_aside(f"{id(lane)}-{lane.windows}", lane.params)
        if lane.path.name != "start":
            shutil.rmtree(lane.path)
        lane.path, lane.run_state = kept.path, kept.run_state
        lane.returns = self._contest.play(self._contest.episodes)

    def _judged(self, lanes: Sequence[_Lane], reference: Array | None) -> RaceResult:
        """Choose which goes on: another than the present only if it beats what it has to."""
        longest = max((lane.windows for lane in lanes if lane.returns is not None), default=0)
        finalists = [
            place
            for place, lane in enumerate(lanes)
            if lane.returns is not None and lane.windows == longest
        ]
        if self._plan.doubts_present:
            finalists = [place for place in finalists if place != 0] or finalists
        # Of equal ones the first, which is the present, where it is among them.
        best = max(finalists, key=lambda place: lanes[place].score, default=0)
        if self._contest.play_best is None:
            gain = _Gain.of(lanes[best].returns, lanes[0].returns)
            has_gained = best != 0 and (self._plan.doubts_present or gain.is_likely)
        else:
            gain = self._gain_over_best(lanes[best], reference)
            has_gained = gain.is_sure and gain.mean > self._contest.least_gain
        return RaceResult(
            scores=tuple(lane.score for lane in lanes),
            windows=tuple(lane.windows for lane in lanes),
            winner=best if has_gained else 0,
            gain=gain.mean,
            error=gain.error,
            has_gained=has_gained,
        )

    def _gain_over_best(self, lane: _Lane, reference: Array | None) -> _Gain:
        """Return the gain over the best policy; what looks like one is decided by further episodes."""
        gain, play_best = _Gain.of(lane.returns, reference), self._contest.play_best
        if not gain.is_sure or play_best is None:
            return gain
        self._become(lane)
        episodes = CONFIRMATION * self._contest.episodes
        return _Gain.of(self._contest.play(episodes), play_best(episodes))

    def _put_aside(self, name: str, params: HyperparamSet) -> _Lane:
        path = self._place / name
        try:
            path.mkdir()
            self._agent.save_state(path)
        except OSError as error:
            raise NotPutAside(f"other settings were not tried: {error}") from error
        return _Lane(params, path, self._agent.run_state())

    def _become(self, lane: _Lane) -> None:
        self._agent.load_state(lane.path)
        self._agent.load_run_state(lane.run_state)
        self._agent.set_hyperparams(lane.params)


def _worst_last(lane: _Lane) -> float:
    return -lane.score


@dataclass(frozen=True)
class _Gain:
    """Of one policy over another, episode by episode in the same ones."""

    mean: float
    error: float
    """The standard error of the mean."""
    limit: float
    """With `CONFIDENCE`, chance makes up no more."""

    @property
    def is_sure(self) -> bool:
        """Whether it is above 0 for sure."""
        return self.mean > self.limit

    @classmethod
    def of(cls, returns: Array | None, other: Array | None) -> _Gain:
        """Return the gain; NaN where one of them is not known."""
        if returns is None or other is None:
            return cls(math.nan, math.nan, math.nan)
        differences = np.asarray(returns, np.float64) - other
        mean, error = float(differences.mean()), float(stats.sem(differences))
        limit = float(stats.t.ppf(CONFIDENCE, len(differences) - 1)) * error
        return cls(mean, error, limit)

    @property
    def is_likely(self) -> bool:
        """Whether it is above 0 by its error, or over one that broke down."""
        return not self.mean <= self.error


def episodes_to_compare(steps: int, length: float, plan: ForkPlan, num_envs: int) -> int:
    """Return how many episodes forks are compared in, as many of each environment where these are few.

    Args:
        steps: Of the run so far.
        length: Of an episode, in steps; NaN where that is not known.
        plan: What they are to try.
        num_envs: Of the environments that play, all of which step until the last episode has ended.
    """
    least, most = EPISODES
    comparisons = 2 * len(plan.candidates)
    affordable = int(PLAY_SHARE * steps / (comparisons * length)) if length > 0.0 else least
    episodes = max(least, min(most, affordable))
    if num_envs > most:
        return episodes
    return num_envs * max(math.ceil(least / num_envs), episodes // num_envs)


def most_plays(plan: ForkPlan, has_best: bool) -> int:
    """Return how often so many episodes are played at most.

    Args:
        plan: What forks are to try.
        has_best: Whether they are compared with the best policy.
    """
    plays = sum(lanes for lanes, _ in _rounds(plan))
    return plays + has_best * (1 + 2 * CONFIRMATION)


def most_windows(plan: ForkPlan) -> int:
    """Return how many windows the learners of a plan take in all, where none breaks down."""
    return sum(lanes * windows for lanes, windows in _rounds(plan))


def _rounds(plan: ForkPlan) -> Iterator[tuple[int, int]]:
    """Yield how many learn and play in each round, and from how many windows each learns."""
    others, windows = len(plan.candidates) - 1, plan.windows
    while others:
        yield 1 + others, windows
        others, windows = _left_of(others), 2 * windows


def _left_of(others: int) -> int:
    """Return how many of the new ones stay: a third, and one at last."""
    return max(others // 3, int(others > 1))
