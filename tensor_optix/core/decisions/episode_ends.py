"""Whether the episodes of a task end: windows come in, what they are scored by goes out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tensor_optix.core.base_evaluator import BaseEvaluator, finished_episodes

if TYPE_CHECKING:
    from tensor_optix.core.types import EpisodeData, EvalMetrics

PATIENCE = 5
"""A task is taken for one without ends after no fewer windows,"""
LEAST_STEPS = 100
"""nor after fewer steps of each environment; where a time limit is known, after no fewer than that."""
MOST_STEPS = 27_000
"""How many steps an episode may take to end, where no time limit is known: what a game of Atari may last,
108,000 frames, of which every fourth is acted on (Machado et al. 2018)."""
LONGEST_LIMIT = 1_000_000
"""A time limit of more steps is none that anybody waits for."""


class EpisodesWithoutEnd(RuntimeError):
    """Episodes took more steps than they are given, and so have no returns."""


def steps_to_end(time_limit: int | None) -> int:
    """Return how many steps an episode is given: its time limit, or `MOST_STEPS` where that is not known."""
    return MOST_STEPS if time_limit is None or time_limit > LONGEST_LIMIT else time_limit


def did_not_end(count: int, episodes: int, steps: int) -> str:
    """Say that `count` of so many episodes took more than so many steps each."""
    return f"{count:,} of {episodes:,} episodes did not end within {steps:,} steps"


class EpisodeEnds:
    """What is known of the ends of episodes, by the windows that a run has trained on.

    Args:
        have_come: Whether it is known that there are some.
    """

    def __init__(self, have_come: bool = False) -> None:
        self.are_given_up = False
        """Whether windows are scored without them."""
        self.have_come = have_come
        """Whether an episode ever ended, also a held-out one."""
        self._waited_in_vain = False
        self.begin(None, None)

    def begin(self, time_limit: int | None, most_windows: int | None) -> None:
        """Begin a run.

        Args:
            time_limit: Steps after which an episode is cut, None where that is not known.
            most_windows: How many windows the run has at most; None: any number.
        """
        self._limit = time_limit
        self._most_windows = most_windows
        self._end_after: int | None = None
        self.windows = 0
        """How many windows the run has trained on."""
        self.steps = 0
        """Steps of each environment in these."""

    def state_dict(self) -> dict[str, Any]:
        """Return what is known so far; the limits follow from the run."""
        return {
            "are_given_up": self.are_given_up,
            "have_come": self.have_come,
            "waited_in_vain": self._waited_in_vain,
            "end_after": self._end_after,
            "windows": self.windows,
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; called after `begin`."""
        self.are_given_up = bool(state["are_given_up"])
        self.have_come = bool(state["have_come"])
        self._waited_in_vain = bool(state["waited_in_vain"])
        self._end_after = state["end_after"]
        self.windows, self.steps = int(state["windows"]), int(state["steps"])

    def note(self, window: EpisodeData) -> None:
        """Take a window that is trained on."""
        self.windows += 1
        self.steps += window.num_steps // window.num_envs
        # Once it is known, the rows need not be looked through.
        if (self.are_given_up or not self.have_come) and len(finished_episodes(window)[0]):
            self.have_come = True
            self._end_after = self.steps

    def note_held_out(self, window: EpisodeData, was_awaited: bool = False) -> None:
        """Take a window that is not learned from.

        Args:
            window: Itself.
            was_awaited: Whether its episodes were given time to end.
        """
        self._waited_in_vain = self._waited_in_vain or was_awaited
        self.have_come = self.have_come or len(finished_episodes(window)[0]) > 0

    @property
    def is_limit_out_of_reach(self) -> bool:
        """Whether the run is over before an episode can reach its time limit."""
        budget = self._budget
        return self._limit is not None and budget is not None and budget < self._limit

    @property
    def are_late(self) -> bool:
        """Whether no episode has ended, though there was time for it."""
        if self.have_come or self.windows < PATIENCE:
            return False
        known = None if self.is_limit_out_of_reach else self._limit
        return self.steps >= (LEAST_STEPS if known is None else known)

    @property
    def came_after_all(self) -> bool:
        """Whether an episode ended in time, but after its end had been given up.

        One that takes longer than an episode is given is too long to wait for the next one.
        """
        most = steps_to_end(self._limit)
        return self.are_given_up and self._end_after is not None and self._end_after <= most

    def windows_to_wait(self, time_limit: int | None, rows: int) -> int:
        """Return how many further windows a held-out episode may take to end.

        Args:
            time_limit: Of the held-out episodes, None where that is not known.
            rows: Steps of each environment in a window.
        """
        if self.are_given_up:
            return 0
        if self.have_come or time_limit is not None:
            return math.ceil(steps_to_end(time_limit) / rows)
        return 0 if self._waited_in_vain or self.are_late else PATIENCE

    def warning(self) -> str | None:
        """Return what is to be said after the first window, if episodes cannot reach their time limit."""
        if self.have_come or not self.is_limit_out_of_reach:
            return None
        budget = self._budget or 0
        is_scored = budget >= LEAST_STEPS and (self._most_windows or 0) >= PATIENCE
        fate = "the score is the mean reward a step" if is_scored else "nothing is scored"
        return (
            f"no episode can reach its time limit of {self._limit:,} steps within the {budget:,} steps "
            f"of this run: unless episodes end sooner, {fate}"
        )

    @property
    def _budget(self) -> int | None:
        """Steps of each environment in the whole run, if the windows to come are as long as those so far."""
        if self._most_windows is None or not self.windows:
            return None
        return self.steps * self._most_windows // self.windows


class StepScoring(BaseEvaluator):
    """Scores windows as another evaluator does; where ends are given up, by the step.

    Args:
        evaluator: The other one.
        ends: Of the task.
    """

    def __init__(self, evaluator: BaseEvaluator, ends: EpisodeEnds) -> None:
        self._evaluator = evaluator
        self._ends = ends

    @property
    def has_step_score(self) -> bool:
        """Whether the evaluator can do that."""
        return self._evaluator.has_step_score

    def score(self, episode_data: EpisodeData, train_diagnostics: dict[str, Any]) -> EvalMetrics:
        """Score a window."""
        return self.per_step(self._evaluator.score(episode_data, train_diagnostics))

    def score_validation(self, episode_data: EpisodeData) -> EvalMetrics:
        """Score a window of held-out data."""
        return self.per_step(self._evaluator.score_validation(episode_data))

    def per_step(self, metrics: EvalMetrics) -> EvalMetrics:
        """Return metrics with the score by the step, where ends are given up."""
        return self._evaluator.per_step(metrics) if self._ends.are_given_up else metrics

    def combine(self, train: EvalMetrics, val: EvalMetrics) -> EvalMetrics:
        """Join a training and a validation score."""
        return self._evaluator.combine(train, val)

    def compare(self, candidate: EvalMetrics, baseline: EvalMetrics) -> bool:
        """Whether `candidate` is the better one."""
        return self._evaluator.compare(candidate, baseline)

    def state_dict(self) -> dict[str, Any] | None:
        """Return what the evaluator keeps."""
        return self._evaluator.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give the evaluator back what it kept."""
        self._evaluator.load_state_dict(state)
