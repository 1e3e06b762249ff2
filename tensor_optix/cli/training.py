"""`tensor-optix train`: options come in, a run directory and an exit code go out."""

from __future__ import annotations

import logging
import sys
import traceback
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tensor_optix.assembly import assemble
from tensor_optix.cli.boards import boards, show_curve
from tensor_optix.cli.building import build_agent, named_callbacks, open_environments, run_config
from tensor_optix.cli.configuration import require_writable, save_options
from tensor_optix.cli.display import Display, log_shown, make_display
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
    from tensor_optix.core.callbacks import LoopEvent
    from tensor_optix.core.environment_recipe import EnvironmentRecipe
    from tensor_optix.pipeline.vector_env import VectorEnv


def train(options: TrainOptions | ResumeOptions) -> int:
    """Train as asked, and leave a run directory.

    Args:
        options: Were checked.

    Returns:
        0: done. 1: it crashed. 128 + n: signal n ended it.

    Raises:
        CommandError: If it cannot be done; nothing was written.
    """
    with Interruption() as interruption:
        try:
            if isinstance(options, ResumeOptions):
                return _resume(options, interruption)
            return _begin(options, interruption)
        except KeyboardInterrupt:
            print("tensor-optix: interrupted before the run was complete", file=sys.stderr)
            return interruption.exit_code


def _begin(options: TrainOptions, interruption: Interruption) -> int:
    """Train from the start, in a new directory."""
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
    training = _Training(directory, pipeline, options.plain, interruption, list(found.events()))
    return training.begin(options, described)


def _resume(options: ResumeOptions, interruption: Interruption) -> int:
    """Go on with a run, in its directory."""
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
    return _Training(directory, pipeline, options.plain, interruption).resume(config)


class _Training:
    """One run of the command.

    Args:
        directory: Of the run.
        pipeline: Gives its windows.
        plain: Whether the display is plain lines, also on a terminal.
        interruption: Listens for signals.
        before: What the log tells of before a run that begins.
    """

    def __init__(
        self,
        directory: RunDirectory,
        pipeline: VectorBatchPipeline,
        plain: bool,
        interruption: Interruption,
        before: Sequence[LoopEvent] = (),
    ) -> None:
        self._directory = directory
        self._pipeline = pipeline
        self._plain = plain
        self._interruption = interruption
        self._before = before
        self._record = TrainingRecord()
        self._notes = list[str]()

    def begin(self, options: TrainOptions, describe: Callable[[VectorEnv], RunConfig]) -> int:
        """Train from the start, or only show what would be trained; return the exit code.

        Args:
            options: Leave nothing open.
            describe: Tells the whole run, once there are environments.
        """
        try:
            agent = self._prepare(options.environment, describe)
            if options.save_config is not None:
                save_options(self._config, options.save_config)
            if options.dry_run:
                print(plan(self._config, self._pipeline.env, self._directory, self._before))
                return 0
            self._directory.create(self._config)
            outcome, display = self._run(agent, resume=False)
        finally:
            self._pipeline.teardown()
        return self._close(outcome, display)

    def resume(self, config: RunConfig) -> int:
        """Go on with the run in the directory, and return the exit code.

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
        display = make_display(self._record, self._config, self._plain)
        with RunLock(self._directory.path), log_shown(display, replay_logger, _note):
            if resume:
                self._directory.describe(self._config)
            for note in self._notes:
                display.note(f"warning: {note}")
            return self._train(agent, display, resume), display

    def _train(self, agent: BaseAgent, display: Display, resume: bool) -> Outcome:
        directory, config = self._directory, self._config
        settings = run_settings(
            optimizer=ForkOptimizer() if config.tune else FixedHyperparams(),
            seed=config.seed,
            checkpoint_dir=directory.checkpoints,
            max_steps=config.max_steps,
            target_score=config.target_score,
            callbacks=[
                self._record,
                display,
                RunLog(directory.path, resume),
                *self._listeners,
                ChoiceLog(self._before),
            ],
        )
        loop = assemble(agent, self._pipeline, settings, RunKeeper(directory.state, resume=resume))
        interruption = self._interruption
        interruption.stop = partial(loop.stop, ending=Ending.INTERRUPTED)
        interruption.acknowledge = display.note
        error: BaseException | None = None
        try:
            loop.run()
        except CheckpointError as unusable:
            display.close()
            raise CommandError(str(unusable)) from unusable
        except (Exception, KeyboardInterrupt) as caught:
            error = caught
        finally:
            display.close()
        if interruption.signal is not None:
            return Outcome(Ending.INTERRUPTED, loop.best_snapshot, signal=interruption.name)
        if error is not None:
            self._keep_traceback(error, display)
            notes = getattr(error, "__notes__", ())
            reason = "; ".join([f"{type(error).__name__}: {error}", *notes])
            return Outcome(Ending.CRASHED, loop.best_snapshot, reason)
        stop = self._record.stop
        assert stop is not None
        return Outcome(stop.ending, loop.best_snapshot, stop.reason or "")

    def _keep_traceback(self, error: BaseException, display: Display) -> None:
        text = "".join(traceback.format_exception(error))
        attempt(lambda: self._directory.traceback.write_text(text, encoding="utf-8"), display.note)

    def _close(self, outcome: Outcome, display: Display) -> int:
        """Write what the run leaves behind, and tell it."""
        directory = self._directory
        report = leave_report(self._record, self._config, directory, outcome, display.note)
        show_curve(self._listeners, directory, self._record.total_steps, display.note)
        display.note("\n" + report.rstrip())
        if outcome.ending is Ending.CRASHED:
            print(
                f"tensor-optix: training crashed: {outcome.reason}; "
                f"the traceback is in {directory.traceback}",
                file=sys.stderr,
            )
            return 1
        return self._interruption.exit_code


def _note(record: logging.LogRecord) -> str:
    is_warning = record.levelno >= logging.WARNING
    return f"{record.levelname.lower()}: " * is_warning + record.getMessage()
