"""The study of a search: settings come in; trials are drawn, pruned and kept, and the best is told.

The one module that imports Optuna; it is imported when a search is made.
"""

from __future__ import annotations

import json
import math
import statistics
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import optuna
from optuna import TrialPruned
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

from tensor_optix.core.argument_checks import whole_number
from tensor_optix.core.callbacks import LoopCallback, WindowReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

    from tensor_optix.core.types import PathLike
    from tensor_optix.trials.space import Spec

JOURNAL_SUFFIXES = (".log", ".journal")

FEW_TRIALS = 10
"""Fewer complete ones do not tell what a hyperparameter is worth."""
GOOD_SHARE = 0.25
"""The best trials, which are held against all. Optuna's own tenth is three of thirty: too few to tell."""
_UNCOUNTED = "uncounted"
"""A trial with this attribute is no part of the budget; the attribute says why."""
_SAMPLING = 0
_TRIAL = 1
_FINAL = 2
_SEED = "seed"
_NAME = "name"
_KILLED = "killed"
"""The numbers of the trials that were killed, and begun again under other ones."""
_SUBJECT = "subject"
_OWN = ("trial_steps", "param_space")
_MOST_TOLD = 3


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """How a study is kept, and how its trials are drawn and compared: see `TrialOrchestrator`.

    Raises:
        ValueError: If a number is out of range, `direction` unknown, or there is no `study_name`.
    """

    n_trials: int = 20
    direction: str = "maximize"
    n_startup_trials: int = 10
    pruner_warmup_steps: int = 5
    pruner_interval: int = 1
    optuna_verbosity: int | None = None
    study_name: str | None = None
    storage: BaseStorage | PathLike | None = None
    seed: int | None = None
    finalists: int = 3
    finalist_seeds: int = 3
    about: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("n_trials", "pruner_interval", "finalist_seeds"):
            self._check(name, 1)
        for name in ("n_startup_trials", "finalists", "pruner_warmup_steps"):
            self._check(name, 0)
        if self.direction not in ("maximize", "minimize"):
            raise ValueError(f"direction must be 'maximize' or 'minimize', got {self.direction!r}")
        if self.storage is not None and self.study_name is None:
            raise ValueError(
                "storage needs a study_name, by which other processes and later runs find the study"
            )

    def _check(self, name: str, least: int) -> None:
        object.__setattr__(self, name, whole_number(name, getattr(self, name), least))


class TrialStudy:
    """A study of Optuna's, and what this search keeps in it besides the trials.

    Args:
        settings: Were checked.
        trial_steps: Of each trial; a study goes on with the same only.
        specs: What is searched. None: that is not known yet, and set before the first trial.

    Raises:
        ValueError: If `storage` is no storage, or `about` has a name of the study's own.
        TypeError: If `about` holds what JSON cannot.
    """

    def __init__(
        self, settings: StudySettings, trial_steps: int | None, specs: dict[str, Spec] | None
    ) -> None:
        self.settings = settings
        self.specs = specs
        self._about = _checked_about(settings.about) | {"trial_steps": trial_steps}
        require_storage(settings.storage)
        self._is_minimized = settings.direction == "minimize"
        self._opened: tuple[Study, int] | None = None

    @property
    def study(self) -> Study:
        """Optuna's, opened when first asked for.

        Raises:
            ValueError: If it has another direction, or is about something else.
        """
        return self._open()[0]

    @property
    def seed(self) -> int:
        """The seed that those of all trials follow from. Opens the study."""
        return self._open()[1]

    def claim(self) -> None:
        """Keep what the study is about, as far as that is known.

        Raises:
            ValueError: If the study is about something else; nothing was changed.
        """
        self._claim(self.study)

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Let Optuna log at the level asked for meanwhile, or only errors."""
        before, asked = optuna.logging.get_verbosity(), self.settings.optuna_verbosity
        optuna.logging.set_verbosity(optuna.logging.ERROR if asked is None else asked)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)

    def count(self) -> int:
        """Return how many trials the budget counts."""
        return len(counted_trials(self.study))

    def train_one(self, objective: Callable[[Trial], float]) -> None:
        """Let Optuna begin a trial, and train it; what the objective raises makes it failed."""
        # A trial's agent is full of reference cycles, and perhaps of a large replay buffer.
        self.study.optimize(objective, n_trials=1, catch=(Exception,), gc_after_trial=True)

    def place_of(self, trial: Trial | FrozenTrial) -> int:
        """Return which of the counted trials this one is; the first is 1."""
        return 1 + sum(one.number < trial.number for one in counted_trials(self.study))

    def draw(self, trial: Trial) -> tuple[dict[str, Any], int]:
        """Return the hyperparameters of a trial, and its seed."""
        params = {name: spec.suggest(trial, name) for name, spec in (self.specs or {}).items()}
        seed = trial.user_attrs.get(_SEED)
        if seed is None:
            seed = _derived(self.seed, _TRIAL, trial.number)
            trial.set_user_attr(_SEED, seed)
        return params, seed

    def name_of(self, trial: Trial | FrozenTrial) -> str:
        """Return what a trial is found again by, also if it goes on under another number."""
        return str(trial.user_attrs.get(_NAME, f"trial_{trial.number}"))

    def begin_killed_ones_again(self) -> None:
        """Let trials go on whose process was killed; nobody else may be working on the study."""
        study = self.study
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            again = {_NAME: self.name_of(trial)}
            if _SEED in trial.user_attrs:
                again[_SEED] = trial.user_attrs[_SEED]
            study.tell(trial.number, state=TrialState.FAIL)
            study.set_user_attr(_KILLED, [*study.user_attrs.get(_KILLED, []), trial.number])
            study.enqueue_trial(trial.params, user_attrs=again)

    def reporter(self, trial: Trial, stop: Callable[[str], None]) -> TrialReporter:
        """Return what reports the scores of a trial, and stops it where it is to be pruned."""
        return TrialReporter(trial, -1 if self._is_minimized else 1, stop)

    def uncount(self, trial: Trial, reason: str) -> None:
        """Let the budget not count a trial."""
        trial.set_user_attr(_UNCOUNTED, reason)

    def leave_out(self, trial: Trial, reason: str) -> NoReturn:
        """End a trial that the budget does not count."""
        self.uncount(trial, reason)
        raise _LeftOutError(reason)

    def prune(self) -> NoReturn:
        """End a trial as a pruned one."""
        raise TrialPruned

    def ranked(self) -> list[FrozenTrial]:
        """Return the complete trials, the best first."""
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        sign = 1 if self._is_minimized else -1
        return sorted(complete, key=lambda trial: (sign * _value(trial), trial.number))

    def importances(self) -> dict[str, float]:
        """Return what each hyperparameter was worth, as `TrialSearch.importances` has it."""
        complete = self.ranked()
        if len(complete) < FEW_TRIALS or _value(complete[0]) == _value(complete[-1]):
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            evaluator = PedAnovaImportanceEvaluator(target_quantile=GOOD_SHARE)
            found = get_param_importances(self.study, evaluator=evaluator)
        return {name: float(share) for name, share in found.items()}

    def params_of(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return the hyperparameters of a trial as they were drawn; those without a spec as they are kept."""
        specs = self.specs or {}
        return {
            name: specs[name].decode(value) if name in specs else value
            for name, value in trial.params.items()
        }

    def missing_finals(self) -> Iterator[tuple[FrozenTrial, int]]:
        """Yield the finalists and fresh seeds that are still to be trained together.

        What another process did meanwhile is passed over.
        """
        return self._missing(self._finalists())

    def keep_final(self, trial: FrozenTrial, seed: int, score: float | None) -> None:
        """Keep a finalist's score; None where the training failed, which puts it out."""
        self.study.set_user_attr(_final(trial, seed), {"score": score})

    def best(self) -> tuple[FrozenTrial, float] | None:
        """Return the best trial and its score: the mean over the fresh seeds, where there is one."""
        ranked = self.ranked()
        if not ranked:
            return None
        return self._winner(self._finalists()) or (ranked[0], float(ranked[0].value or 0.0))

    def _open(self) -> tuple[Study, int]:
        if self._opened is None:
            settings = self.settings
            with self.logging():
                study, seed = open_study(settings, open_storage(settings.storage))
                self._claim(study)
                study.sampler = NumberedSampler(seed, settings.n_startup_trials)
                study.pruner = MedianPruner(
                    settings.n_startup_trials,
                    settings.pruner_warmup_steps,
                    settings.pruner_interval,
                )
            self._opened = study, seed
        return self._opened

    def _claim(self, study: Study) -> None:
        subject = dict(self._about)
        if self.specs is not None:
            subject["param_space"] = {name: one.described() for name, one in self.specs.items()}
        claim(study, subject)

    def _finalists(self) -> list[FrozenTrial]:
        return self.ranked()[: self.settings.finalists]

    def _fresh_seeds(self) -> list[int]:
        """Return the seeds that the finalists are compared with, none that a trial has."""
        return [_derived(self.seed, _FINAL, index) for index in range(self.settings.finalist_seeds)]

    def _missing(self, trials: Sequence[FrozenTrial]) -> Iterator[tuple[FrozenTrial, int]]:
        for seed in self._fresh_seeds():
            for trial in trials:
                if _final(trial, seed) not in self.study.user_attrs:
                    yield trial, seed

    def _winner(self, trials: Sequence[FrozenTrial]) -> tuple[FrozenTrial, float] | None:
        """Return the best finalist and its mean score.

        None while a score is missing, for then the comparison would not be a fair one, and if all
        finalists failed.
        """
        if next(self._missing(trials), None) is not None:
            return None
        kept = self.study.user_attrs
        means: list[tuple[FrozenTrial, float]] = []
        for trial in trials:
            scores = [kept[_final(trial, seed)]["score"] for seed in self._fresh_seeds()]
            if None not in scores:
                means.append((trial, statistics.fmean(scores)))
        if not means:
            return None
        return (min if self._is_minimized else max)(means, key=lambda pair: pair[1])


class _LeftOutError(Exception):
    """A trial that the budget does not count."""


def require_storage(storage: BaseStorage | PathLike | None) -> None:
    """Check that a study can be kept in something; nothing is made yet.

    Args:
        storage: None: memory. An URL such as "sqlite:///x.db". A path that ends in .log or .journal:
            a journal file, which several processes may share. Or a storage of Optuna's.

    Raises:
        ValueError: If it is another path.
        TypeError: If it is something else.
    """
    if storage is None or isinstance(storage, BaseStorage):
        return
    if not isinstance(storage, str | Path):
        raise TypeError(f"storage must be a path, an URL or an Optuna storage, got {storage!r}")
    if not _is_url(storage) and Path(storage).suffix not in JOURNAL_SUFFIXES:
        raise ValueError(
            f'storage must be an URL such as "sqlite:///study.db" or a path that ends in '
            f"{' or '.join(JOURNAL_SUFFIXES)}, got {str(storage)!r}"
        )


def _is_url(storage: PathLike) -> bool:
    return isinstance(storage, str) and "://" in storage


def open_storage(storage: BaseStorage | PathLike | None) -> BaseStorage | str | None:
    """Return what Optuna keeps a study in, of what `require_storage` let pass."""
    if storage is None or isinstance(storage, BaseStorage):
        return storage
    if _is_url(storage):
        return _with_home(str(storage))
    path = Path(storage).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


def _with_home(url: str) -> str:
    """Return an URL of SQLite's with the home directory in the place of `~`."""
    scheme, slashes, file = url.partition(":///")
    is_file = scheme.startswith("sqlite") and file.startswith("~")
    return f"{scheme}{slashes}{Path(file).expanduser()}" if is_file else url


def open_study(settings: StudySettings, storage: BaseStorage | str | None) -> tuple[Study, int]:
    """Open a study, a new one if there is none of that name; return its seed, too.

    Raises:
        ValueError: If the study is there and has another direction.
    """
    name, direction, seed = settings.study_name, settings.direction, settings.seed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            storage=storage,
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

    They are all that have begun, but those that were interrupted, or killed and begun again.
    """
    killed = study.user_attrs.get(_KILLED, [])
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state != TrialState.WAITING
        and _UNCOUNTED not in trial.user_attrs
        and trial.number not in killed
    ]


def _checked_about(about: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the user's part of a description as JSON gives it back.

    Raises:
        ValueError: If a name is one that the description has of its own.
        TypeError: If a value is none that JSON can hold.
    """
    for name in about or {}:
        if name in _OWN:
            raise ValueError(f"about must not hold {name!r}, which a study keeps by itself")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(about or {})))
    except (TypeError, ValueError) as error:
        raise TypeError(f"about must hold what JSON can, got {about!r}: {error}") from error
    return plain


def claim(study: Study, subject: Mapping[str, Any]) -> None:
    """Keep what a study is about; what it keeps already must be the same.

    Args:
        study: A new one, or one that goes on.
        subject: By name, as JSON has it. What only one side knows is not compared.

    Raises:
        ValueError: If the study is about something else; nothing was changed.
    """
    kept = study.user_attrs.get(_SUBJECT, {})
    differences = list(_differences(kept, subject))
    if differences:
        more = len(differences) - _MOST_TOLD
        told = "; ".join(differences[:_MOST_TOLD]) + (f"; and {more} more" if more > 0 else "")
        raise ValueError(
            f"the study {study.study_name!r} is about something else: {told}; choose another "
            "study_name or storage, or go on as it was begun"
        )
    if not subject.keys() <= kept.keys():
        study.set_user_attr(_SUBJECT, {**kept, **subject})


def _differences(kept: Mapping[str, Any], subject: Mapping[str, Any]) -> Iterator[str]:
    for name in subject:
        if name not in kept:
            continue
        if name != "param_space":
            yield from _difference(name, kept[name], subject[name])
            continue
        there, here = kept[name], subject[name]
        for param in {**there, **here}:
            label = f"param_space[{param!r}]"
            yield from _difference(label, there.get(param), here.get(param))


def _difference(label: str, there: Any, here: Any) -> Iterator[str]:
    # As text, for True equals 1, and NaN does not equal itself.
    if json.dumps(there, sort_keys=True) != json.dumps(here, sort_keys=True):
        yield f"{label} is {_said(there)} there, {_said(here)} here"


def _said(value: Any) -> str:
    return "not given" if value is None else repr(value)


def _value(trial: FrozenTrial) -> float:
    return math.nan if trial.value is None else trial.value


def _derived(seed: int, purpose: int, number: int) -> int:
    words = np.random.SeedSequence(seed, spawn_key=(purpose, number)).generate_state(1)
    return int(words[0]) % 2**31


def _final(trial: FrozenTrial, seed: int) -> str:
    """Return under which name a study keeps the score of a finalist."""
    return f"trial {trial.number} with seed {seed}"
