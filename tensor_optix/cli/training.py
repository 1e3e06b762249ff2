"""`tensor-optix train`: options come in, a run directory and an exit code go out."""

from __future__ import annotations

import logging
import sys
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

from tensor_optix.cli.building import build_agent, open_environments, run_config
from tensor_optix.cli.display import Display, log_shown, make_display
from tensor_optix.cli.framework_loading import framework_for, load_announced, require_framework
from tensor_optix.cli.interruption import Interruption
from tensor_optix.core.base_optimizer import FixedHyperparams
from tensor_optix.core.callbacks import Ending, RunLog
from tensor_optix.core.replay.storage import logger as replay_logger
from tensor_optix.optimizer import RLOptimizer
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tensor_optix.runs.record import TrainingRecord
from tensor_optix.runs.report import Outcome
from tensor_optix.runs.run_directory import RunDirectory, new_run_directory
from tensor_optix.runs.run_files import attempt, leave_report

if TYPE_CHECKING:
    from tensor_optix.cli.options import TrainOptions
    from tensor_optix.core.base_agent import BaseAgent


def train(options: TrainOptions) -> int:
    """Train as asked, and leave a run directory.

    Args:
        options: Were checked.

    Returns:
        0: done. 1: it crashed. 128 + n: signal n ended it.

    Raises:
        CommandError: If it cannot be done; nothing was written.
    """
    if options.framework is not None:
        require_framework(options.framework)
    with Interruption() as interruption:
        try:
            return _Training(options, interruption).run()
        except KeyboardInterrupt:
            print("tensor-optix: interrupted before the run was complete", file=sys.stderr)
            return interruption.exit_code


class _Training:
    """One run of the command."""

    def __init__(self, options: TrainOptions, interruption: Interruption) -> None:
        self._options = options
        self._interruption = interruption
        self._record = TrainingRecord()
        if options.run_dir is None:
            self._directory = new_run_directory(options.env_id)
        else:
            self._directory = RunDirectory(options.run_dir)

    def run(self) -> int:
        options, notes = self._options, list[str]()
        self._directory.require_free()
        pipeline = VectorBatchPipeline(
            window_size=options.window,
            env_id=options.env_id,
            num_envs=options.envs,
            backend=options.backend,
            env_kwargs=options.environment.kwargs,
            wrappers=options.wrapper,
        )
        try:
            env = open_environments(options.environment, lambda: pipeline.env, notes.append)
            framework = framework_for(
                options.framework, env.observation_space, options.device, options.engine
            )
            load_announced(framework, options.plain)
            self._config = run_config(
                options, env, framework, max_steps=options.max_steps, tune=options.tune
            )
            agent = build_agent(env, self._config)
            self._config = replace(self._config, updates_by=agent.updates_by)
            self._directory.create(self._config)
            display = make_display(self._record, self._config, options.plain)
            with log_shown(display, replay_logger, _note):
                for note in notes:
                    display.note(f"warning: {note}")
                outcome = self._train(agent, pipeline, display)
        finally:
            pipeline.teardown()
        return self._close(outcome, display)

    def _train(self, agent: BaseAgent, pipeline: VectorBatchPipeline, display: Display) -> Outcome:
        optimizer = RLOptimizer(
            agent,
            pipeline,
            optimizer=None if self._options.tune else FixedHyperparams(),
            seed=self._config.seed,
            checkpoint_dir=self._directory.checkpoints,
            max_steps=self._options.max_steps,
            callbacks=[self._record, display, RunLog(self._directory.path)],
        )
        self._interruption.stop, self._interruption.acknowledge = optimizer.stop, display.note
        error: BaseException | None = None
        try:
            optimizer.run()
        except (Exception, KeyboardInterrupt) as caught:
            error = caught
        finally:
            display.close()
        if self._interruption.signal is not None:
            name = self._interruption.name
            return Outcome(Ending.INTERRUPTED, optimizer.best_snapshot, signal=name)
        if error is not None:
            self._keep_traceback(error, display)
            reason = f"{type(error).__name__}: {error}"
            return Outcome(Ending.CRASHED, optimizer.best_snapshot, reason)
        stop = self._record.stop
        assert stop is not None
        return Outcome(stop.ending, optimizer.best_snapshot, stop.reason or "")

    def _keep_traceback(self, error: BaseException, display: Display) -> None:
        text = "".join(traceback.format_exception(error))
        attempt(lambda: self._directory.traceback.write_text(text, encoding="utf-8"), display.note)

    def _close(self, outcome: Outcome, display: Display) -> int:
        """Write what the run leaves behind, and tell it."""
        directory = self._directory
        report = leave_report(self._record, self._config, directory, outcome, display.note)
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
