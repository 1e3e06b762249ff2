"""`TrialOrchestrator`: factories and a space of hyperparameters come in, the best of them go out.

Trials are short trainings, which Optuna draws and prunes. The best ones are trained again with fresh
seeds, for the best of many single scores is mostly a lucky one.
"""

from __future__ import annotations

import importlib
import logging
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tensor_optix.trials.space import parse_space, space_of
from tensor_optix.trials.trial import TrialRun, TrialSetup, trial_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import Trial

    from tensor_optix.core.base_pipeline import BasePipeline
    from tensor_optix.core.callbacks import LoopCallback
    from tensor_optix.core.foreign_agent import AgentLike
    from tensor_optix.core.types import PathLike
    from tensor_optix.trials.space import ParamSpace, Spec
    from tensor_optix.trials.trial import TrialScore

logger = logging.getLogger(__name__)


class TrialSearch:
    """Trains one trial after the other until a study has enough of them, then its finalists.

    Args:
        setup: What the trials have in common.
        param_space: What is searched. None: the bounds of the agent that is made of no parameters.
        **study: Fields of `StudySettings`.

    Raises:
        ImportError: If Optuna is not installed.
        ValueError: If a spec or a setting is out of range.
        TypeError: If `about` holds what JSON cannot.
    """

    def __init__(self, setup: TrialSetup, param_space: ParamSpace | None, **study: Any) -> None:
        try:
            from tensor_optix.trials.study import StudySettings, TrialStudy
        except ImportError as error:
            raise ImportError(
                f"TrialOrchestrator needs Optuna ({error}): pip install 'tensor-optix[tune]'"
            ) from error
        settings = StudySettings(**study)
        specs = None if param_space is None else parse_space(param_space)
        self._setup = setup
        self._trials = TrialStudy(settings, setup.trial_steps, specs)
        self._running: TrialRun | None = None
        self._stop_reason: str | None = None
        self._first_error: Exception | None = None

    @property
    def study(self) -> Study:
        """The study of Optuna's, opened when first asked for.

        Raises:
            ValueError: If it has another direction, or is about something else.
        """
        return self._trials.study

    @property
    def seed(self) -> int:
        """The seed that those of all trials follow from. Opens the study."""
        return self._trials.seed

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

    @property
    def best_name(self) -> str:
        """What the best trial is called where its files are. Raises RuntimeError before one is complete."""
        best = self._trials.best()
        if best is None:
            raise self._nothing_found()
        return self._trials.name_of(best[0])

    @property
    def importances(self) -> dict[str, float]:
        """What each hyperparameter was worth: its share of what tells good trials from all, largest first.

        Empty before 10 trials are complete, since fewer tell next to nothing, or where all scored the same.
        PED-ANOVA (Watanabe et al. 2023) of Optuna's: the best quarter of the trials against all.
        """
        return self._trials.importances()

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
        self._end_trial(reason)

    def run(self) -> tuple[dict[str, Any], float]:
        """Search until the study has its trials, compare the finalists; return the best and its score.

        KeyboardInterrupt passes through; what was complete is kept, and `best_params` tells the best.

        Raises:
            RuntimeError: If no trial is complete, with the first one's exception as its cause.
            ValueError: If the agent has no bounds that a `param_space` could be derived from, or the
                study is about something else.
        """
        trials, self._first_error = self._trials, None
        if trials.specs is None:
            trials.specs = self._derived_specs()
        trials.claim()
        with trials.logging():
            if self._setup.directory is not None:
                trials.begin_killed_ones_again()
            while self._stop_reason is None and trials.count() < trials.settings.n_trials:
                trials.train_one(self._objective)
            self._train_finalists()
        self._stop_reason = None
        return self._best()

    def _derived_specs(self) -> dict[str, Spec]:
        space = space_of(self._setup.agent_factory({}))
        if not space:
            raise ValueError(
                "param_space is None, and the agent has no default_param_bounds to derive it from; "
                "give a param_space such as {'learning_rate': ('log_float', 1e-5, 1e-2)}"
            )
        return parse_space(space)

    def _objective(self, trial: Trial) -> float:
        """Train one trial for Optuna: return its score, or raise what makes it pruned or failed."""
        trials, place = self._trials, self._trials.place_of(trial)
        if place > trials.settings.n_trials:
            trials.leave_out(trial, "another process began the last trial of the study")
        try:
            params, seed = trials.draw(trial)
            reporter, name = trials.reporter(trial, self._end_trial), trials.name_of(trial)
            result = self._train(params, seed, name, reporter)
        except KeyboardInterrupt:
            trials.uncount(trial, "interrupted")
            raise
        except Exception as error:
            logger.warning("trial %d failed", place, exc_info=error)
            # What is kept for the user must not keep the agent and its replay buffer, too.
            traceback.clear_frames(error.__traceback__)
            self._first_error = self._first_error or error
            raise
        if self._stop_reason is not None:
            trials.leave_out(trial, self._stop_reason)
        said = f"trial {trials.place_of(trial)} of {trials.settings.n_trials}"
        if result is None:
            logger.info("%s: pruned, %s", said, _listed(params))
            trials.prune()
        trial.set_user_attr("steps", result.steps)
        logger.info("%s: score %.6g, %s", said, result.score, _listed(params))
        return result.score

    def _train_finalists(self) -> None:
        """Train the best trials with each fresh seed."""
        trials = self._trials
        for trial, seed in trials.missing_finals():
            if self._stop_reason is not None:
                return
            said, score = f"finalist {trials.place_of(trial)}, seed {seed}", None
            try:
                name = f"final_{trial.number}_{seed}"
                result = self._train(trials.params_of(trial), seed, name)
                score = None if result is None else result.score
            except Exception as error:
                logger.warning("%s: failed", said, exc_info=error)
            if self._stop_reason is None:
                trials.keep_final(trial, seed, score)
            if score is not None:
                logger.info("%s: score %.6g", said, score)

    def _train(
        self, params: dict[str, Any], seed: int, name: str, listener: LoopCallback | None = None
    ) -> TrialScore | None:
        """Train one agent, in reach of `stop`; None if it was ended before its time."""
        self._running = TrialRun(self._setup)
        try:
            if self._stop_reason is not None:
                self._running.stop(self._stop_reason)
            return self._running.run(params, seed, name, listener)
        finally:
            self._running = None

    def _end_trial(self, reason: str) -> None:
        if self._running is not None:
            self._running.stop(reason)

    def _best(self) -> tuple[dict[str, Any], float]:
        best = self._trials.best()
        if best is None:
            raise self._nothing_found()
        trial, score = best
        return self._trials.params_of(trial), score

    def _nothing_found(self) -> RuntimeError:
        said = f"none of the {self._trials.count()} trials of the study is complete"
        cause = self._first_error
        if cause is None:
            return RuntimeError(f"{said}; call run(), or look into .study.trials")
        error = RuntimeError(f"{said}; the first to fail raised {type(cause).__name__}: {cause}")
        error.__cause__ = cause
        return error


class TrialOrchestrator(TrialSearch):
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

    Examples:
        >>> from tensor_optix import BatchPipeline, HyperparamSet, TrialOrchestrator, make_agent
        >>> def make(params):
        ...     return make_agent("CartPole-v1", framework="native", hyperparams=HyperparamSet(params))
        >>> search = TrialOrchestrator(
        ...     make, lambda: BatchPipeline(env_id="CartPole-v1", window_size=64), seed=0,
        ...     param_space={"gamma": ("float", 0.9, 0.999)}, n_trials=2, trial_steps=128, finalists=1)
        >>> params, score = search.run()
    """

    def __init__(
        self,
        agent_factory: Callable[[dict[str, Any]], AgentLike],
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
        checkpoint_score_fn: Callable[[Any], float] | None = None,
        study_name: str | None = None,
        storage: BaseStorage | PathLike | None = None,
        seed: int | None = None,
        finalists: int = 3,
        finalist_seeds: int = 3,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        setup = TrialSetup(
            agent_factory,
            pipeline_factory,
            val_pipeline_factory,
            trial_steps,
            direction == "minimize",
            replace(
                trial_settings(rloptimizer_kwargs or {}), checkpoint_score_fn=checkpoint_score_fn
            ),
        )
        super().__init__(
            setup,
            param_space,
            n_trials=n_trials,
            direction=direction,
            n_startup_trials=n_startup_trials,
            pruner_warmup_steps=pruner_warmup_steps,
            pruner_interval=pruner_interval,
            optuna_verbosity=optuna_verbosity,
            study_name=study_name,
            storage=storage,
            seed=seed,
            finalists=finalists,
            finalist_seeds=finalist_seeds,
            about=about,
        )


def _listed(params: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in params.items()
    )
