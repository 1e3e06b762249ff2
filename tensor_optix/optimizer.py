"""`RLOptimizer`: an agent and a pipeline come in, the best policy comes out. Names and delegates."""

from __future__ import annotations

import logging
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensor_optix.assembly import assemble
from tensor_optix.core.argument_checks import closest, function
from tensor_optix.core.callbacks import Ending
from tensor_optix.runs.interruption import Interruption
from tensor_optix.runs.run_lock import RunLock
from tensor_optix.settings import run_settings, setting_names
from tensor_optix.trials.factory_run import Factories, FactoryRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tensor_optix.core.base_evaluator import BaseEvaluator
    from tensor_optix.core.base_optimizer import BaseOptimizer
    from tensor_optix.core.base_pipeline import BasePipeline
    from tensor_optix.core.callbacks import LoopCallback
    from tensor_optix.core.foreign_agent import AgentLike
    from tensor_optix.core.loop_controller import LoopController
    from tensor_optix.core.types import LoopState, PathLike, PolicySnapshot
    from tensor_optix.trials.space import ParamSpace


logger = logging.getLogger(__name__)


class RLOptimizer:
    """Trains an agent until nothing is left to gain, and leaves it with the best policy found.

    What of `BackoffScheduler` is left out is picked as the run goes, and so is what is given as its
    documented default: `dormant_threshold=20` says no more than None.

    Args:
        agent: Acts and learns: a `BaseAgent`, or any object with its six methods. Agent and pipeline, or
            their factories.
        pipeline: Gives the windows.
        evaluator: Scores windows. None: the mean return of finished episodes; where none ends for several
            windows, nor within a known time limit, the mean reward a step.
        optimizer: Proposes hyperparameters while the agent trains. None: `SPSAOptimizer` within the
            agent's `default_param_bounds`; `FixedHyperparams()` switches tuning off.
        checkpoint_dir: Where the best policies are kept. None: `run_dir/checkpoints`, or "./checkpoints".
        max_snapshots: How many of them are kept, of this run: a directory may hold several.
        rollback_on_degradation: Restore the best policy, with optimizer state, normalizers and
            hyperparameters, when the score has fallen.
        improvement_margin: The least gain that counts as an improvement.
        max_episodes: Collect at most so many windows, in each `run()`. None: until nothing is left to gain.
        base_interval: Windows between two evaluations. None: a small share of the windows so far.
        backoff_factor: The interval grows by this after an evaluation without improvement.
        max_interval_episodes: The longest interval.
        plateau_threshold: Evaluations without improvement until COOLING.
        dormant_threshold: Evaluations without improvement until DORMANT. None: until a statistical test
            confirms a plateau.
        degradation_threshold: The score has fallen when it is below `best - |best| * (1 - this)`.
        min_degradation_drop: The least fall that is a degradation, for a best near 0.
        noise_k: Standard deviations of the score's noise that an improvement must exceed.
        score_window: Scores from which the noise is measured.
        trend_window: Scores whose slope shows an improvement.
        min_episodes_before_dormant: Evaluations before DORMANT may be declared. None: the agent's own.
        min_episodes_before_degradation: Evaluations before a degradation may be declared.
        callbacks: Listeners.
        val_pipeline: Held-out windows: the agent acts greedily there and never learns; their score is the
            one that counts.
        score_smoothing: Evaluated scores whose mean is compared with the best.
        checkpoint_score_fn: `fn(agent) -> float`, decides which checkpoint is the best, and nothing else.
        verbose: Print one line per evaluation.
        verbose_log_file: Write these lines to this file instead.
        seed: Makes agent and environments reproducible. None: they keep their own.
        run_dir: Keep there what `tensor-optix train` keeps: `run.json`, `metrics.jsonl`, `events.jsonl`, the
            checkpoints and, when the run ends, `report.txt` and (with Matplotlib) `learning_curve.png`.
            `tensor-optix evaluate` plays the best policy, if `make_agent` made the agent, in an environment
            that has an id. The whole run is kept there in checkpoints, too, from which it can be resumed.
        max_steps: Make at most so many environment steps, in each `run()`: it ends before a window that
            could exceed them. Schedules of hyperparameters run over the share of this cap, or of
            `max_episodes`, that is left, and need one of the two.
        target_score: Stop once the best policy's rank, a cautious estimate of its score, reaches this; where
            no episode ends, that is the mean reward a step.
        finalists: How many of the best policies play fresh greedy episodes at the end for which of them is
            returned; not where a `val_pipeline` or a `checkpoint_score_fn` has ranked them, nor live.
        resume: Go on with the run in `run_dir` as if it had not stopped, with parts made as they were then:
            weights, optimizers, replay, tuner, scores, counters, random generators come from its newest
            sound checkpoint. Caps are those of the whole run, and may be larger now. Episodes go on where
            the environments can be brought to where they were, else all begin anew. With no run there, one
            begins: a program that always says so can be killed and started again at any time.
        checkpoint_seconds: Time between two checkpoints of the run; more where they would take more than
            2 % of it. So much may be lost, and the window under way.
        agent_factory: `fn(params) -> agent`. With it, trials search the best hyperparameters first.
        pipeline_factory: `fn() -> pipeline`.
        param_space: What is searched, as `TrialOrchestrator` has it. None: there is no search.
        n_trials: How many trials.
        trial_steps_fraction: The length of a trial as a share of `max_episodes`; of 2000 windows where there
            is no such cap, whatever `max_steps` says. Never less than 5 windows.
        val_pipeline_factory: `fn() -> val_pipeline`.
        trial_agent_factory: Makes the agents of the trials. None: `agent_factory` does.
        warm_start: Let the agent go on from what the best trial has learned, in place of starting anew.
        progress: Show the run in a panel that is redrawn in place, in a terminal or a notebook; piped,
            nothing. Needs rich.
        **diagnostics: `diag_...`: rules of `DiagnosticController`, which is off if none is given.

    Raises:
        TypeError: On an unknown argument, with the closest match, or if a part is missing.
        ValueError: If a number is out of range, or `run_dir` holds another run.
        ImportError: If there are trials to be made, and Optuna is not installed; or progress to be shown,
            and rich is not.

    Examples:
        >>> from tensor_optix import RLOptimizer, VectorBatchPipeline, make_agent
        >>> agent = make_agent("CartPole-v1", framework="native", seed=0)
        >>> pipeline = VectorBatchPipeline(env_id="CartPole-v1", num_envs=4, window_size=64)
        >>> optimizer = RLOptimizer(agent, pipeline, max_steps=1024, seed=0)
        >>> optimizer.run()
        >>> optimizer.best_snapshot.eval_metrics.primary_score > 9
        True
    """

    def __init__(
        self,
        agent: AgentLike | None = None,
        pipeline: BasePipeline | None = None,
        evaluator: BaseEvaluator | None = None,
        optimizer: BaseOptimizer | None = None,
        checkpoint_dir: PathLike | None = None,
        max_snapshots: int = 10,
        rollback_on_degradation: bool = False,
        improvement_margin: float = 0.0,
        max_episodes: int | None = None,
        base_interval: int | None = None,
        backoff_factor: float | None = None,
        max_interval_episodes: int | None = None,
        plateau_threshold: int | None = None,
        dormant_threshold: int | None = None,
        degradation_threshold: float | None = None,
        min_degradation_drop: float | None = None,
        noise_k: float | None = None,
        score_window: int | None = None,
        trend_window: int | None = None,
        min_episodes_before_dormant: int | None = None,
        min_episodes_before_degradation: int | None = None,
        callbacks: Sequence[LoopCallback] | None = None,
        val_pipeline: BasePipeline | None = None,
        score_smoothing: int = 2,
        checkpoint_score_fn: Callable[[Any], float] | None = None,
        verbose: bool = False,
        verbose_log_file: PathLike | None = None,
        seed: int | None = None,
        run_dir: PathLike | None = None,
        max_steps: int | None = None,
        target_score: float | None = None,
        finalists: int = 5,
        resume: bool = False,
        checkpoint_seconds: float = 60.0,
        agent_factory: Callable[[dict[str, Any]], AgentLike] | None = None,
        pipeline_factory: Callable[[], BasePipeline] | None = None,
        param_space: ParamSpace | None = None,
        n_trials: int = 20,
        trial_steps_fraction: float = 0.01,
        val_pipeline_factory: Callable[[], BasePipeline] | None = None,
        trial_agent_factory: Callable[[dict[str, Any]], AgentLike] | None = None,
        warm_start: bool = False,
        progress: bool = False,
        **diagnostics: Any,
    ) -> None:
        _refuse_unknown(diagnostics)
        settings = run_settings(
            evaluator=evaluator,
            optimizer=optimizer,
            checkpoint_dir=checkpoint_dir,
            max_snapshots=max_snapshots,
            rollback_on_degradation=rollback_on_degradation,
            improvement_margin=improvement_margin,
            max_episodes=max_episodes,
            base_interval=base_interval,
            backoff_factor=backoff_factor,
            max_interval_episodes=max_interval_episodes,
            plateau_threshold=plateau_threshold,
            dormant_threshold=dormant_threshold,
            degradation_threshold=degradation_threshold,
            min_degradation_drop=min_degradation_drop,
            noise_k=noise_k,
            score_window=score_window,
            trend_window=trend_window,
            min_episodes_before_dormant=min_episodes_before_dormant,
            min_episodes_before_degradation=min_episodes_before_degradation,
            callbacks=callbacks,
            val_pipeline=val_pipeline,
            score_smoothing=score_smoothing,
            checkpoint_score_fn=checkpoint_score_fn,
            verbose=verbose,
            verbose_log_file=verbose_log_file,
            seed=seed,
            run_dir=run_dir,
            max_steps=max_steps,
            target_score=target_score,
            finalists=finalists,
            resume=resume,
            checkpoint_seconds=checkpoint_seconds,
            progress=progress,
            **diagnostics,
        )
        self._directory = None if run_dir is None else Path(run_dir)
        self._run: LoopController | FactoryRun
        if agent_factory is None and pipeline_factory is None:
            _refuse(
                "{0} needs agent_factory and pipeline_factory",
                param_space=param_space,
                val_pipeline_factory=val_pipeline_factory,
                trial_agent_factory=trial_agent_factory,
                warm_start=warm_start or None,
            )
            self._run = assemble(agent, pipeline, settings)
            return
        _refuse(
            "give either {0} or {0}_factory, not both",
            agent=agent,
            pipeline=pipeline,
            val_pipeline=val_pipeline,
        )
        factories = Factories(
            agent_factory=function("agent_factory", agent_factory),
            pipeline_factory=function("pipeline_factory", pipeline_factory),
            param_space=param_space,
            n_trials=n_trials,
            trial_steps_fraction=trial_steps_fraction,
            val_pipeline_factory=val_pipeline_factory,
            trial_agent_factory=trial_agent_factory,
            warm_start=warm_start,
        )
        self._run = FactoryRun(factories, settings)

    def run(self) -> None:
        """Train until nothing is left to gain, a cap, or `stop()`; blocks.

        On return, also by an exception, the agent holds the best policy found: its weights, with the
        hyperparameters, the optimizer's moments and the normalizers that it had. Counters, schedules and
        random generators (steps, epsilon, a learning rate that Keras schedules) are those of the run's
        end. A second call trains on from there, with windows, steps and log; each has the whole caps.

        With a `run_dir` the first Ctrl-C or SIGTERM lets the window under way end, keeps the run, and ends
        the program (KeyboardInterrupt, SystemExit); the second ends it at once. Handlers of your own stay.

        Raises:
            ValueError: If `max_steps` is less than one window, or if a hyperparameter follows a schedule and
                there is no cap.
            CheckpointError: If the run is to be resumed, and no checkpoint is sound, or it is of another run.
            RunDirectoryError: If another process runs in `run_dir`.
        """
        if self._directory is None:
            self._run.run()
            return
        with RunLock(self._directory), Interruption() as interruption:
            interruption.stop = partial(self._run.stop, ending=Ending.INTERRUPTED)
            interruption.acknowledge = logger.warning
            self._run.run()
        interruption.end_process()

    def stop(self, reason: str = "stop() was called") -> None:
        """End the run after the window under way; before `run()`: let it return at once.

        Args:
            reason: What the log says of it.
        """
        self._run.stop(reason)

    def add_callback(self, cb: LoopCallback) -> None:
        """Add a listener."""
        self._run.add_callback(cb)

    @property
    def state(self) -> LoopState:
        """What the loop believes about the training."""
        return self._run.state

    @property
    def best_snapshot(self) -> PolicySnapshot | None:
        """The best policy so far; None before the first score.

        After a run that ended before any score, its last policy: `eval_metrics.never_scored`.
        """
        return self._run.best_snapshot

    @property
    def agent(self) -> Any:
        """The agent that is trained, the very object that was given; None before a factory has made it."""
        return self._run.agent


def _refuse(message: str, **given: Any) -> None:
    """Refuse arguments that do not go with the others."""
    for name, value in given.items():
        if value is not None:
            raise TypeError(message.format(name))


def _refuse_unknown(names: Iterable[str]) -> None:
    known = ["agent", "pipeline", *setting_names(), *(one.name for one in fields(Factories))]
    for name in names:
        if name not in known:
            close = closest(name, known)
            hint = f"; did you mean {close!r}?" if close else ""
            raise TypeError(f"RLOptimizer has no argument {name!r}{hint}")
