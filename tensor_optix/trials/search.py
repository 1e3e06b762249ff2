"""The work of a search: a study comes in, with all its trials and its finalists trained it is left."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

from optuna import TrialPruned

from tensor_optix.trials.space import decoded
from tensor_optix.trials.study import UNCOUNTED, TrialReporter, counted_trials, place_of, trial_seed
from tensor_optix.trials.trial_run import TrialRun

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

    from tensor_optix.core.callbacks import LoopCallback
    from tensor_optix.trials.space import Finalists, Spec
    from tensor_optix.trials.trial_run import TrialScore, TrialSetup

logger = logging.getLogger(__name__)


class TrialSearch:
    """Trains one trial after the other.

    Args:
        study: With its sampler and pruner.
        seed: Of the study.
        specs: Of the parameters.
        setup: What the trials have in common.
    """

    def __init__(
        self, study: Study, seed: int, specs: Mapping[str, Spec], setup: TrialSetup
    ) -> None:
        self._study = study
        self._seed = seed
        self._specs = specs
        self._setup = setup
        self._budget = 0
        self._running: TrialRun | None = None
        self._stop_reason: str | None = None
        self.first_error: Exception | None = None
        """What the first failed trial raised, of those that were trained here."""

    def stop(self, reason: str) -> None:
        """End what is under way after its window, and begin nothing more."""
        self._stop_reason = reason
        self._end_trial(reason)

    def train_trials(self, n_trials: int) -> None:
        """Train until the study has so many trials; what one of them raises makes it failed."""
        self._budget = n_trials
        while self._stop_reason is None and len(counted_trials(self._study)) < n_trials:
            # A trial's agent is full of reference cycles, and perhaps of a large replay buffer.
            self._study.optimize(
                self._objective, n_trials=1, catch=(Exception,), gc_after_trial=True
            )

    def train_finalists(self, finals: Finalists, trials: Sequence[FrozenTrial]) -> None:
        """Train the best trials with each fresh seed."""
        for trial, seed in finals.missing(trials):
            if self._stop_reason is not None:
                return
            said, score = f"finalist {place_of(self._study, trial.number)}, seed {seed}", None
            try:
                result = self._run(decoded(self._specs, trial.params), seed)
                score = None if result is None else result.score
            except Exception as error:
                logger.warning("%s: failed", said, exc_info=error)
            if self._stop_reason is None:
                finals.keep(trial, seed, score)
            if score is not None:
                logger.info("%s: score %.6g", said, score)

    def _objective(self, trial: Trial) -> float:
        """Train one trial for Optuna: return its score, or raise what makes it pruned or failed."""
        place = place_of(self._study, trial.number)
        if place > self._budget:
            _leave_out(trial, "another process began the last trial of the study")
        try:
            return self._train(trial)
        except KeyboardInterrupt:
            trial.set_user_attr(UNCOUNTED, "interrupted")
            raise
        except (TrialPruned, _LeftOutError):
            raise
        except Exception as error:
            logger.warning("trial %d failed", place, exc_info=error)
            # What is kept for the user must not keep the agent and its replay buffer, too.
            traceback.clear_frames(error.__traceback__)
            self.first_error = self.first_error or error
            raise

    def _train(self, trial: Trial) -> float:
        params = {name: spec.suggest(trial, name) for name, spec in self._specs.items()}
        seed = trial_seed(self._seed, trial.number)
        trial.set_user_attr("seed", seed)
        sign = -1 if self._setup.is_minimized else 1
        result = self._run(params, seed, TrialReporter(trial, sign, self._end_trial))
        if self._stop_reason is not None:
            _leave_out(trial, self._stop_reason)
        said = f"trial {place_of(self._study, trial.number)} of {self._budget}"
        if result is None:
            logger.info("%s: pruned, %s", said, _listed(params))
            raise TrialPruned
        trial.set_user_attr("steps", result.steps)
        logger.info("%s: score %.6g, %s", said, result.score, _listed(params))
        return result.score

    def _run(
        self, params: dict[str, Any], seed: int, listener: LoopCallback | None = None
    ) -> TrialScore | None:
        """Train one agent, in reach of `stop`; None if it was ended before its time."""
        self._running = TrialRun(self._setup)
        try:
            if self._stop_reason is not None:
                self._running.stop(self._stop_reason)
            return self._running.run(params, seed, listener)
        finally:
            self._running = None

    def _end_trial(self, reason: str) -> None:
        if self._running is not None:
            self._running.stop(reason)


class _LeftOutError(Exception):
    """A trial that the budget does not count."""


def _leave_out(trial: Trial, reason: str) -> None:
    trial.set_user_attr(UNCOUNTED, reason)
    raise _LeftOutError(reason)


def _listed(params: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in params.items()
    )
