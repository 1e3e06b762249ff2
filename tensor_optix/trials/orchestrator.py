"""`TrialOrchestrator`: factories and a space of hyperparameters come in, the best of them go out.

Trials are short trainings, which Optuna draws and prunes. The best ones are trained again with fresh
seeds, for the best of many single scores is mostly a lucky one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tensor_optix.trials.space import (
    Finalists,
    Spec,
    checked_about,
    claim,
    decoded,
    described,
    parse_space,
    space_of,
)
from tensor_optix.trials.trial_run import TrialSetup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_pipeline import BasePipeline
    from tensor_optix.core.types import PathLike
    from tensor_optix.trials.search import TrialSearch
    from tensor_optix.trials.space import ParamSpace


class TrialOrchestrator:
    """Searches hyperparameters by short trainings.

    Each trial trains a fresh agent in a fresh pipeline, with hyperparameters that stay as they were
    drawn, and scores its best policy. A trial that is clearly worse than the median of the others is
    pruned; one that raises is logged and counts as failed. Then the best trials are trained again, each
    with the same fresh seeds, and the best mean decides.

    Several processes may work on one study: give each the same `storage` and `study_name`. A study that
    is there already goes on; a trial whose process was killed stays counted. A study keeps its space,
    `trial_steps` and `about`, and refuses to go on with others. With one process and a
    seed the search is reproducible, as far as the factories are: the weights that `agent_factory` draws
    are its own business.

    Args:
        agent_factory: `fn(params) -> agent`.
        pipeline_factory: `fn() -> pipeline`, a new one for each trial.
        param_space: `{name: spec}`, a spec being `("float", lo, hi)`, `("log_float", lo, hi)`,
            `("int", lo, hi)`, `("log_int", lo, hi)` or `("categorical", v1, v2, ...)`; bounds are
            inclusive. None: the `default_param_bounds` of `agent_factory({})`.
        n_trials: Trials of the study, those of other processes and earlier runs included.
        trial_steps: Environment steps of a trial, which ends with the window that reaches them. None:
            it ends by itself, or as `rloptimizer_kwargs` have it.
        direction: "maximize" or "minimize" the score.
        n_startup_trials: Trials that are drawn at random before the search begins to learn from them,
            and complete before any is pruned.
        pruner_warmup_steps: Windows of a trial before it may be pruned.
        pruner_interval: Windows between two such decisions.
        optuna_verbosity: Log level of Optuna's meanwhile, such as `logging.INFO`. None: only errors.
        rloptimizer_kwargs: Further arguments of each trial's `RLOptimizer`.
        val_pipeline_factory: `fn() -> pipeline` of held-out data, whose score then counts.
        checkpoint_score_fn: `fn(agent) -> float`, the score of a policy instead of the loop's own.
        study_name: Of the study in `storage`.
        storage: Where the study is kept: an URL such as "sqlite:///study.db", a path that ends in
            .journal or .log (a journal file, best for several processes), or a storage of Optuna's.
            None: in memory.
        seed: Every trial's seed follows from it. None: the study's own, or one that is drawn.
        finalists: How many of the best trials are trained again. 0: none, the best trial is the best.
        finalist_seeds: With how many fresh seeds.
        about: What else the study is about, in values that JSON can hold: the name of the environment,
            for instance. None: nothing.

    Raises:
        ImportError: If Optuna is not installed.
        ValueError: If a spec or a number is out of range, `direction` unknown, `storage` no storage, or
            without a `study_name`. When the study is opened: if it is about something else.
        TypeError: If a factory is no function, `RLOptimizer` has no such argument, or `about` holds
            what JSON cannot.
    """

    def __init__(
        self,
        agent_factory: Callable[[dict[str, Any]], BaseAgent],
        pipeline_factory: Callable[[], BasePipeline],
        param_space: ParamSpace | None = None,
        n_trials: int = 20,
        trial_steps: int | None = 50_000,
        direction: str = "maximize",
        n_startup_trials: int = 10,
        pruner_warmup_steps: int = 5,
        pruner_interval: int = 1,
        optuna_verbosity: int | None = None,
        rloptimizer_kwargs: Mapping[str, Any] | None = None,
        val_pipeline_factory: Callable[[], BasePipeline] | None = None,
        checkpoint_score_fn: Callable[[BaseAgent], float] | None = None,
        study_name: str | None = None,
        storage: BaseStorage | PathLike | None = None,
        seed: int | None = None,
        finalists: int = 3,
        finalist_seeds: int = 3,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self._study_module, self._search_module = _import_search()
        _require_at_least(1, n_trials=n_trials, pruner_interval=pruner_interval)
        _require_at_least(1, finalist_seeds=finalist_seeds)
        _require_at_least(0, n_startup_trials=n_startup_trials, finalists=finalists)
        _require_at_least(0, pruner_warmup_steps=pruner_warmup_steps)
        if direction not in ("maximize", "minimize"):
            raise ValueError(f"direction must be 'maximize' or 'minimize', got {direction!r}")
        if storage is not None and study_name is None:
            raise ValueError(
                "storage needs a study_name, by which other processes and later runs find the study"
            )
        self._specs = None if param_space is None else parse_space(param_space)
        self._about = checked_about(about)
        self._n_trials = n_trials
        self._direction = direction
        self._setup = TrialSetup(
            agent_factory,
            pipeline_factory,
            val_pipeline_factory,
            checkpoint_score_fn,
            trial_steps,
            direction == "minimize",
            dict(rloptimizer_kwargs or {}),
        )
        self._setup.check()
        self._pruning = (n_startup_trials, pruner_warmup_steps, pruner_interval)
        self._verbosity = optuna_verbosity
        self._place = (self._study_module.open_storage(storage), study_name)
        self._seed = seed
        self._finalists = finalists
        self._finalist_seeds = finalist_seeds
        self._study: tuple[Study, int] | None = None
        self._search: TrialSearch | None = None
        self._stop_reason: str | None = None

    @property
    def study(self) -> Study:
        """The study of Optuna's, opened when first asked for.

        Raises:
            ValueError: If it has another direction, or is about something else.
        """
        return self._opened()[0]

    @property
    def seed(self) -> int:
        """The seed that those of all trials follow from. Opens the study."""
        return self._opened()[1]

    @property
    def best_params(self) -> dict[str, Any]:
        """The best hyperparameters so far. Raises RuntimeError before a trial is complete."""
        return self._best()[0]

    @property
    def best_score(self) -> float:
        """Their score: the mean over the fresh seeds, or that of the trial where there is none.

        Raises:
            RuntimeError: Before a trial is complete.
        """
        return self._best()[1]

    def trials_dataframe(self) -> Any:
        """Return the trials as a `pandas.DataFrame`.

        Raises:
            ImportError: If pandas is not installed.
        """
        try:
            importlib.import_module("pandas")
        except ImportError as error:
            message = "trials_dataframe() makes a pandas.DataFrame: pip install pandas"
            raise ImportError(message) from error
        return self.study.trials_dataframe()

    def stop(self, reason: str = "stop() was called") -> None:
        """End the search after the window under way; its trial does not count."""
        self._stop_reason = reason
        if self._search is not None:
            self._search.stop(reason)

    def run(self) -> tuple[dict[str, Any], float]:
        """Search until the study has its trials, compare the finalists; return the best and its score.

        KeyboardInterrupt passes through; what was complete is kept, and `best_params` tells the best.

        Raises:
            RuntimeError: If no trial is complete, with the first one's exception as its cause.
            ValueError: If the agent has no bounds that a `param_space` could be derived from, or the
                study is about something else.
        """
        if self._specs is None:
            self._specs = self._derived_specs()
        study, seed = self._opened()
        self._claim(study)
        search = self._search = self._search_module.TrialSearch(
            study, seed, self._specs, self._setup
        )
        if self._stop_reason is not None:
            search.stop(self._stop_reason)
        with self._study_module.logging_at(self._verbosity):
            search.train_trials(self._n_trials)
            search.train_finalists(self._finals(), self._ranked()[: self._finalists])
        self._stop_reason = None
        return self._best()

    def _opened(self) -> tuple[Study, int]:
        """Return the study and its seed."""
        if self._study is None:
            backend = self._study_module
            with backend.logging_at(self._verbosity):
                study, seed = backend.open_study(*self._place, self._direction, self._seed)
                self._claim(study)
                study.sampler = backend.NumberedSampler(seed, self._pruning[0])
                study.pruner = backend.median_pruner(*self._pruning)
            self._study = study, seed
        return self._study

    def _claim(self, study: Study) -> None:
        claim(study, described(self._about, self._setup.trial_steps, self._specs))

    def _derived_specs(self) -> dict[str, Spec]:
        space = space_of(self._setup.agent_factory({}))
        if not space:
            raise ValueError(
                "param_space is None, and the agent has no default_param_bounds to derive it from; "
                "give a param_space such as {'learning_rate': ('log_float', 1e-5, 1e-2)}"
            )
        return parse_space(space)

    def _ranked(self) -> list[FrozenTrial]:
        return list(self._study_module.ranked_trials(self.study))

    def _finals(self) -> Finalists:
        study, seed = self._opened()
        seeds = self._study_module.fresh_seeds(seed, self._finalist_seeds)
        return Finalists(study, seeds, self._setup.is_minimized)

    def _best(self) -> tuple[dict[str, Any], float]:
        ranked = self._ranked()
        if not ranked:
            raise self._nothing_found()
        winner = self._finals().winner(ranked[: self._finalists])
        trial, score = winner or (ranked[0], float(ranked[0].value or 0.0))
        return decoded(self._specs or {}, trial.params), score

    def _nothing_found(self) -> RuntimeError:
        count = len(self._study_module.counted_trials(self.study))
        said = f"none of the {count} trials of the study is complete"
        cause = None if self._search is None else self._search.first_error
        if cause is None:
            return RuntimeError(f"{said}; call run(), or look into .study.trials")
        error = RuntimeError(f"{said}; the first to fail raised {type(cause).__name__}: {cause}")
        error.__cause__ = cause
        return error


def _import_search() -> tuple[ModuleType, ModuleType]:
    """Import what needs Optuna."""
    try:
        from tensor_optix.trials import search, study
    except ImportError as error:
        raise ImportError(
            f"TrialOrchestrator needs Optuna ({error}): pip install 'tensor-optix[tune]'"
        ) from error
    return study, search


def _require_at_least(least: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if not isinstance(number, int) or number < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {number!r}")
