"""`tensor-optix train`: options come in, a run directory and an exit code go out."""

from __future__ import annotations

import logging
import sys
import traceback
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from tensor_optix.assembly import assemble
from tensor_optix.cli.boards import boards, show_curve
from tensor_optix.cli.building import build_agent, named_callbacks, open_environments, run_config
from tensor_optix.cli.configuration import require_writable, save_options
from tensor_optix.cli.errors import CommandError
from tensor_optix.cli.framework_loading import framework_for, load_announced, require_framework
from tensor_optix.cli.options import ResumeOptions, TrainOptions
from tensor_optix.cli.plan import plan
from tensor_optix.cli.starting import ChoiceLog, settled
from tensor_optix.core.base_optimizer import FixedHyperparams
from tensor_optix.core.callbacks import Ending, RunLog
from tensor_optix.core.checkpoints.run_keeper import RunKeeper
from tensor_optix.core.checkpoints.saved_state import CheckpointError
from tensor_optix.core.replay.storage import logger as replay_logger
from tensor_optix.optimizers.fork_optimizer import ForkOptimizer
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tensor_optix.runs.display import Display, log_shown, make_display
from tensor_optix.runs.interruption import Interruption
from tensor_optix.runs.record import TrainingRecord
from tensor_optix.runs.report import Outcome
from tensor_optix.runs.run_directory import RunConfig, RunDirectory, new_run_directory
from tensor_optix.runs.run_files import attempt, leave_report
from tensor_optix.runs.run_lock import RunLock
from tensor_optix.settings import run_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.callbacks import LoopCallback, LoopEvent
    from tensor_optix.core.environment_recipe import EnvironmentRecipe
    from tensor_optix.pipeline.vector_env import VectorEnv

MakeDisplay: TypeAlias = "Callable[[TrainingRecord, RunConfig], Display]"


class Trained(NamedTuple):
    """A run that is over."""

    directory: RunDirectory
    ending: Ending | None
    error: BaseException | None
    """What it crashed by."""

    @property
    def reason(self) -> str:
        """Why it crashed, in words."""
        return f"{_said(self.error)}; the traceback is in {self.directory.traceback}"


def train(options: TrainOptions | ResumeOptions) -> int:
    """Train as asked, and leave a run directory.

    Args:
        options: Were checked.

    Returns:
        0: done. 1: it crashed. 128 + n: signal n ended it.

    Raises:
        CommandError: If it cannot be done; nothing was written.
    """
    shown = partial(make_display, plain=options.plain)
    with Interruption() as interruption:
        try:
            if isinstance(options, TrainOptions):
                trained = begin(options, shown, interruption)
            else:
                trained = resume(options, shown, interruption)
        except KeyboardInterrupt:
            print("tensor-optix: interrupted before the run was complete", file=sys.stderr)
            return interruption.exit_code
        if trained is not None and trained.ending is Ending.CRASHED:
            print(f"tensor-optix: training crashed: {trained.reason}", file=sys.stderr)
            return 1
        return interruption.exit_code


def begin(
    options: TrainOptions,
    make_display: MakeDisplay,
    interruption: Interruption,
    callbacks: Sequence[LoopCallback] = (),
) -> Trained | None:
    """Train from the start, in a new directory.

    Args:
        options: Were checked.
        make_display: Makes what shows the run.
        interruption: Listens for signals.
        callbacks: Listeners beside those that the options name.

    Returns:
        How it ended; None where it was only to be shown.

    Raises:
        CommandError: If it cannot be done; nothing was written.
    """
    if options.framework is not None:
        require_framework(options.framework)
    if options.run_dir is None:
        directory = new_run_directory(options.env_id)
    else:
        directory = RunDirectory(options.run_dir)
    directory.require_free()
    if options.save_config is not None:
        require_writable(options.save_config)
    # What the packages warn of they say again when the environments to train in are made.
    found = settled(options, warn=lambda _: None)
    options = found.options

    def described(env: VectorEnv) -> RunConfig:
        framework = framework_for(
            options.framework, env.observation_space, options.device, options.engine
        )
        load_announced(framework, options.plain)
        own = ("max_steps", "target_score", "tune", "tensorboard", "csv", "wandb", "mlflow")
        others = {name: getattr(options, name) for name in own}
        return run_config(options, env, framework, callbacks=options.callback, **others)

    pipeline = VectorBatchPipeline(
        window_size=options.window,
        env_id=options.env_id,
        num_envs=options.envs,
        backend=options.backend,
        env_kwargs=options.environment.kwargs,
        wrappers=options.wrapper,
    )
    training = _Training(directory, pipeline, make_display, interruption)
    return training.begin(options, described, callbacks, list(found.events()))


def resume(
    options: ResumeOptions, make_display: MakeDisplay, interruption: Interruption
) -> Trained:
    """Go on with a run, in its directory. As `begin`."""
    directory = RunDirectory(options.resume)
    config = directory.read_config()
    window_size = config.window_size
    if not config.is_rebuildable or window_size is None:
        raise CommandError(
            f"the run in {directory.path} was begun by a program, which alone can go on with it: "
            "RLOptimizer(..., resume=True)"
        )
    if not RunKeeper(directory.state).has_checkpoint:
        raise CommandError(
            f"{directory.path} holds no checkpoint to go on from: the run ended before its first window, "
            "or was made by an earlier version; train anew"
        )
    framework = require_framework(config.framework)
    load_announced(framework, options.plain)
    if options.max_steps is not None:
        config = replace(config, max_steps=options.max_steps)
    pipeline = VectorBatchPipeline(
        window_size=window_size,
        env_id=config.env_id,
        num_envs=config.num_envs,
        backend=config.backend,
        env_kwargs=config.env_kwargs,
        wrappers=config.wrappers,
    )
    return _Training(directory, pipeline, make_display, interruption).resume(config)


class _Training:
    """One run of the command.

    Args:
        directory: Of the run.
        pipeline: Gives its windows.
        make_display: Makes what shows it.
        interruption: Listens for signals.
    """

    def __init__(
        self,
        directory: RunDirectory,
        pipeline: VectorBatchPipeline,
        make_display: MakeDisplay,
        interruption: Interruption,
    ) -> None:
        self._directory = directory
        self._pipeline = pipeline
        self._make_display = make_display
        self._interruption = interruption
        self._record = TrainingRecord()
        self._error: BaseException | None = None
        self._notes = list[str]()

    def begin(
        self,
        options: TrainOptions,
        describe: Callable[[VectorEnv], RunConfig],
        callbacks: Sequence[LoopCallback],
        before: Sequence[LoopEvent],
    ) -> Trained | None:
        """Train from the start, or only show what would be trained.

        Args:
            options: Leave nothing open.
            describe: Tells the whole run, once there are environments.
            callbacks: Further listeners.
            before: What the log tells of before it begins.
        """
        try:
            agent = self._prepare(options.environment, describe)
            self._listeners += [*callbacks, ChoiceLog(before)]
            if options.save_config is not None:
                save_options(self._config, options.save_config)
            if options.dry_run:
                print(plan(self._config, self._pipeline.env, self._directory, before))
                return None
            self._directory.create(self._config)
            outcome, display = self._run(agent, resume=False)
        finally:
            self._pipeline.teardown()
        return self._close(outcome, display)

    def resume(self, config: RunConfig) -> Trained:
        """Go on with the run in the directory.

        Args:
            config: Of the run; its limits may be others from here on.
        """
        try:
            agent = self._prepare(config.environment, lambda _: config)
            outcome, display = self._run(agent, resume=True)
        finally:
            self._pipeline.teardown()
        return self._close(outcome, display)

    def _prepare(
        self, environment: EnvironmentRecipe, describe: Callable[[VectorEnv], RunConfig]
    ) -> BaseAgent:
        """Make all that the run needs; nothing is written."""
        env = open_environments(environment, lambda: self._pipeline.env, self._notes.append)
        config = describe(env)
        agent = build_agent(env, config)
        self._config = replace(config, updates_by=agent.updates_by)
        self._listeners = [*boards(self._config, self._directory), *named_callbacks(self._config)]
        return agent

    def _run(self, agent: BaseAgent, resume: bool) -> tuple[Outcome, Display]:
        display = self._make_display(self._record, self._config)
        with RunLock(self._directory.path), log_shown(display, replay_logger, _note):
            if resume:
                # The limits may be others from here on.
                self._directory.describe(self._config)
            for note in self._notes:
                display.warn(f"warning: {note}")
            return self._train(agent, display, resume), display

    def _train(self, agent: BaseAgent, display: Display, resume: bool) -> Outcome:
        directory, config = self._directory, self._config
        settings = run_settings(
            optimizer=ForkOptimizer() if config.tune else FixedHyperparams(),
            seed=config.seed,
            checkpoint_dir=directory.checkpoints,
            max_steps=config.max_steps,
            target_score=config.target_score,
            callbacks=[self._record, display, RunLog(directory.path, resume), *self._listeners],
        )
        loop = assemble(agent, self._pipeline, settings, RunKeeper(directory.state, resume=resume))
        interruption = self._interruption
        interruption.stop = partial(loop.stop, ending=Ending.INTERRUPTED)
        interruption.acknowledge = display.warn
        try:
            loop.run()
        except CheckpointError as unusable:
            display.close()
            raise CommandError(str(unusable)) from unusable
        except (Exception, KeyboardInterrupt) as caught:
            self._error = caught
        finally:
            display.close()
        if interruption.signal is not None:
            return Outcome(Ending.INTERRUPTED, loop.best_snapshot, signal=interruption.name)
        if self._error is not None:
            self._keep_traceback(self._error, display)
            return Outcome(Ending.CRASHED, loop.best_snapshot, _said(self._error))
        stop = self._record.stop
        assert stop is not None
        return Outcome(stop.ending, loop.best_snapshot, stop.reason or "")

    def _keep_traceback(self, error: BaseException, display: Display) -> None:
        text = "".join(traceback.format_exception(error))
        attempt(lambda: self._directory.traceback.write_text(text, encoding="utf-8"), display.warn)

    def _close(self, outcome: Outcome, display: Display) -> Trained:
        """Write what the run leaves behind, and tell it."""
        directory = self._directory
        report = leave_report(self._record, self._config, directory, outcome, display.warn)
        show_curve(self._listeners, directory, self._record.total_steps, display.warn)
        display.note("\n" + report.rstrip())
        return Trained(directory, outcome.ending, self._error)


def _said(error: BaseException | None) -> str:
    """Return an error in words, with its notes."""
    return "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])


def _note(record: logging.LogRecord) -> str:
    is_warning = record.levelno >= logging.WARNING
    return f"{record.levelname.lower()}: " * is_warning + record.getMessage()
