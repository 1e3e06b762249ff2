"""The Optuna side of a search: where it is kept, how trials are drawn and pruned, which is the best.

The one module that imports Optuna; it is imported when a search is made.
"""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

from tensor_optix.core.callbacks import LoopCallback, WindowReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

    from tensor_optix.core.types import PathLike

JOURNAL_SUFFIXES = (".log", ".journal")
UNCOUNTED = "uncounted"
"""A trial with this attribute is no part of the budget; the attribute says why."""

_SAMPLING = 0
_TRIAL = 1
_FINAL = 2
_SEED = "seed"


def open_storage(storage: BaseStorage | PathLike | None) -> BaseStorage | str | None:
    """Return what Optuna keeps a study in.

    Args:
        storage: None: memory. An URL such as "sqlite:///x.db". A path that ends in .log or .journal:
            a journal file, which several processes may share. Or a storage of Optuna's.

    Raises:
        ValueError: If it is another path.
        TypeError: If it is something else.
    """
    if storage is None or isinstance(storage, BaseStorage):
        return storage
    if not isinstance(storage, str | Path):
        raise TypeError(f"storage must be a path, an URL or an Optuna storage, got {storage!r}")
    if isinstance(storage, str) and "://" in storage:
        return storage
    path = Path(storage)
    if path.suffix not in JOURNAL_SUFFIXES:
        raise ValueError(
            f'storage must be an URL such as "sqlite:///study.db" or a path that ends in '
            f"{' or '.join(JOURNAL_SUFFIXES)}, got {str(storage)!r}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


def open_study(
    storage: BaseStorage | PathLike | None, name: str | None, direction: str, seed: int | None
) -> tuple[Study, int]:
    """Open a study, a new one if there is none of that name; return its seed, too.

    Args:
        storage: As for `open_storage`.
        name: None in memory only.
        direction: "maximize" or "minimize".
        seed: None: the one that the study was begun with, or one that is drawn.

    Raises:
        ValueError: If the study is there and has another direction.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            storage=open_storage(storage),
            study_name=name,
            direction=direction,  # type: ignore[arg-type]
            load_if_exists=True,
        )
    if study.direction is not StudyDirection[direction.upper()]:
        raise ValueError(
            f"the study {name!r} has the direction {study.direction.name.lower()}, got {direction!r}; "
            "choose another study_name"
        )
    if seed is None:
        seed = study.user_attrs.get(_SEED)
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    if _SEED not in study.user_attrs:
        study.set_user_attr(_SEED, seed)
    return study, seed


def trial_seed(seed: int, number: int) -> int:
    """Return the seed of a trial."""
    return _derived(seed, _TRIAL, number)


def fresh_seeds(seed: int, count: int) -> list[int]:
    """Return the seeds that the finalists are compared with, none that a trial has."""
    return [_derived(seed, _FINAL, index) for index in range(count)]


def median_pruner(n_startup_trials: int, warmup_steps: int, interval: int) -> MedianPruner:
    """Return a pruner that compares trials window by window."""
    return MedianPruner(n_startup_trials, warmup_steps, interval)


class NumberedSampler(BaseSampler):
    """TPE (Bergstra et al. 2011) whose draws follow from the study's seed and the trial's number.

    So a study that goes on does not draw its first points again, nor do two processes on one study
    draw the same ones.

    Args:
        seed: The study's.
        n_startup_trials: Trials that are drawn at random before TPE begins.
    """

    def __init__(self, seed: int, n_startup_trials: int) -> None:
        self._seed = seed
        self._n_startup_trials = n_startup_trials
        self._tpe = self._sampler(0)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Seed anew."""
        self._tpe = self._sampler(trial.number)
        self._tpe.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: Any, values: Any) -> None:
        """Hear of a trial's end."""
        self._tpe.after_trial(study, trial, state, values)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the parameters that are drawn together."""
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw parameters together."""
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, distribution: BaseDistribution
    ) -> Any:
        """Draw one parameter."""
        return self._tpe.sample_independent(study, trial, param_name, distribution)

    def _sampler(self, number: int) -> TPESampler:
        seed = _derived(self._seed, _SAMPLING, number)
        return TPESampler(n_startup_trials=self._n_startup_trials, seed=seed)


class TrialReporter(LoopCallback):
    """Reports each smoothed score to a trial, and stops the loop when the trial is to be pruned.

    The step of a report is the number of windows: they end alike in all trials, while the number of
    environment steps in them may differ by a few.

    Args:
        trial: The trial.
        sign: -1 where the loop's scores are turned round.
        stop: Ends the loop.
    """

    def __init__(self, trial: Trial, sign: int, stop: Callable[[str], None]) -> None:
        self._trial = trial
        self._sign = sign
        self._stop = stop
        self.is_pruned = False

    def on_window(self, report: WindowReport) -> None:
        """Report an evaluated window."""
        if report.smoothed is None or self.is_pruned:
            return
        self._trial.report(self._sign * report.smoothed, report.episode_id + 1)
        if self._trial.should_prune():
            self.is_pruned = True
            self._stop("the trial is pruned")


def counted_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials that the budget counts, in the order of their numbers.

    They are all that have begun, but those that were interrupted.
    """
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state != TrialState.WAITING and UNCOUNTED not in trial.user_attrs
    ]


def place_of(study: Study, number: int) -> int:
    """Return which of the counted trials the one of this number is; the first is 1."""
    return 1 + sum(trial.number < number for trial in counted_trials(study))


def ranked_trials(study: Study) -> list[FrozenTrial]:
    """Return the complete trials, the best first."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if study.direction is StudyDirection.MAXIMIZE else 1
    return sorted(complete, key=lambda trial: (sign * _value(trial), trial.number))


@contextmanager
def logging_at(verbosity: int | None) -> Iterator[None]:
    """Let Optuna log at this level meanwhile; None: only errors."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR if verbosity is None else verbosity)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _value(trial: FrozenTrial) -> float:
    return math.nan if trial.value is None else trial.value


def _derived(seed: int, purpose: int, number: int) -> int:
    words = np.random.SeedSequence(seed, spawn_key=(purpose, number)).generate_state(1)
    return int(words[0]) % 2**31
