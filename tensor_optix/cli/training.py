"""`tensor-optix train`: options come in, a run directory and an exit code go out."""

from __future__ import annotations

import logging
import math
import sys
import traceback
from contextlib import nullcontext
from typing import TYPE_CHECKING

from tensor_optix.cli.building import build_agent, open_environments, run_config
from tensor_optix.cli.display import Display, announced, log_shown, make_display
from tensor_optix.cli.framework_loading import is_loaded, load
from tensor_optix.cli.interruption import Interruption
from tensor_optix.cli.record import TrainingRecord
from tensor_optix.cli.report import Ending, Outcome, closing_report
from tensor_optix.cli.run_directory import RunDirectory, new_run_directory
from tensor_optix.core.base_optimizer import FixedHyperparams
from tensor_optix.core.callbacks import LoopCallback, WindowReport
from tensor_optix.core.replay.storage import logger as replay_logger
from tensor_optix.core.types import LoopState
from tensor_optix.optimizer import RLOptimizer
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.algorithms.frameworks import Framework
    from tensor_optix.cli.options import TrainOptions
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.pipeline.vector_contract import VectorEnv


def train(options: TrainOptions, framework: Framework) -> int:
    """Train as asked, and leave a run directory.

    Args:
        options: Were checked.
        framework: Is installed.

    Returns:
        0: done. 1: it crashed. 128 + n: signal n ended it.

    Raises:
        CommandError: If it cannot be done; nothing was written.
    """
    with Interruption() as interruption:
        try:
            return _Training(options, framework, interruption).run()
        except KeyboardInterrupt:
            print("tensor-optix: interrupted before the run was complete", file=sys.stderr)
            return interruption.exit_code


class _Training:
    """One run of the command."""

    def __init__(
        self, options: TrainOptions, framework: Framework, interruption: Interruption
    ) -> None:
        self._options = options
        self._framework = framework
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
        )
        try:
            env = open_environments(options.env_id, lambda: pipeline.env, notes.append)
            self._reach = _reach(env, options.max_steps)
            self._load_framework()
            self._config = run_config(
                options, env, self._framework, max_steps=options.max_steps, tune=options.tune
            )
            agent = build_agent(env, self._config)
            self._directory.create(self._config)
            display = make_display(self._record, self._config, options.plain)
            with log_shown(display, replay_logger, _note):
                for note in notes:
                    display.note(f"warning: {note}")
                outcome = self._train(agent, pipeline, display)
        finally:
            pipeline.teardown()
        return self._close(outcome, display)

    def _load_framework(self) -> None:
        said = announced(f"loading {self._framework.title} ...", self._options.plain)
        with nullcontext() if is_loaded(self._framework) else said:
            load(self._framework)

    def _train(self, agent: BaseAgent, pipeline: VectorBatchPipeline, display: Display) -> Outcome:
        optimizer = RLOptimizer(
            agent,
            pipeline,
            optimizer=None if self._options.tune else FixedHyperparams(),
            seed=self._config.seed,
            run_dir=self._directory.path,
            callbacks=[self._record, display],
        )
        cap = _StepCap(self._options.max_steps, self._options.rows_per_window, optimizer.stop)
        optimizer.add_callback(cap)
        if self._reach is not None:
            optimizer.add_callback(_Reach(f"warning: {self._reach}", display.note))
        self._interruption.stop = optimizer.stop
        error: BaseException | None = None
        try:
            optimizer.run()
        except (Exception, KeyboardInterrupt) as caught:
            error = caught
        finally:
            display.close()
        if self._interruption.signal is not None:
            name = self._interruption.signal.name
            said = "Ctrl-C" if name == "SIGINT" else name
            return Outcome(Ending.INTERRUPTED, optimizer.best_snapshot, signal=said)
        if error is not None:
            return Outcome(Ending.CRASHED, optimizer.best_snapshot, error)
        ending = Ending.CAPPED if cap.is_reached else Ending.FINISHED
        return Outcome(ending, optimizer.best_snapshot)

    def _close(self, outcome: Outcome, display: Display) -> int:
        """Write what the run leaves behind; a full disk costs only what does not fit."""
        from tensor_optix.cli.report import draw_curve

        directory, record, config = self._directory, self._record, self._config
        error = outcome.error
        if error is not None:
            text = "".join(traceback.format_exception(error))
            _attempt(lambda: directory.traceback.write_text(text, encoding="utf-8"), display)
        _attempt(lambda: draw_curve(record, config, directory.curve), display)
        report = closing_report(record, config, directory, outcome)
        _attempt(lambda: directory.report.write_text(report, encoding="utf-8"), display)
        display.note("\n" + report.rstrip())
        if error is not None:
            print(
                f"tensor-optix: training crashed: {type(error).__name__}: {error}; "
                f"the traceback is in {directory.traceback}",
                file=sys.stderr,
            )
            return 1
        return self._interruption.exit_code


class _StepCap(LoopCallback):
    """Stops the loop before a window that could exceed the limit."""

    def __init__(
        self, max_steps: int | None, rows_per_window: int, stop: Callable[[str], None]
    ) -> None:
        self._max_steps = max_steps
        self._rows = rows_per_window
        self._stop = stop
        self.is_reached = False

    def on_window(self, report: WindowReport) -> None:
        """Stop, if the next window might be too much; not a loop that rests already."""
        if self._max_steps is None or report.state is LoopState.DORMANT:
            return
        if report.total_steps + self._rows > self._max_steps:
            self.is_reached = True
            self._stop(f"the cap of {self._max_steps} steps was reached")


class _Reach(LoopCallback):
    """Says something after a first window in which no episode ended."""

    def __init__(self, message: str, say: Callable[[str], None]) -> None:
        self._message = message
        self._say = say

    def on_window(self, report: WindowReport) -> None:
        """Say it; ordinary tasks have an end by then, whatever their time limit."""
        if report.episode_id == 0 and report.score is None:
            self._say(self._message)


def _reach(env: VectorEnv, max_steps: int | None) -> str | None:
    """Return what is to be said where no episode can reach its time limit."""
    each = math.inf if max_steps is None else max_steps // env.num_envs
    if env.max_episode_steps is None or env.max_episode_steps <= each:
        return None
    return (
        f"no episode can reach its time limit of {env.max_episode_steps:,} steps within the {each:,} of "
        "each environment: unless episodes end sooner, nothing is scored, and the last weights are kept"
    )


def _note(record: logging.LogRecord) -> str:
    is_warning = record.levelno >= logging.WARNING
    return f"{record.levelname.lower()}: " * is_warning + record.getMessage()


def _attempt(write: Callable[[], object], display: Display) -> None:
    try:
        write()
    except Exception as error:
        display.note(f"error: not written: {type(error).__name__}: {error}")
