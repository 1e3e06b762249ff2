"""What a run leaves beside its log: the loop's reports come in; `run.json`, curve and report go out."""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING, Any

from tensor_optix.core.callbacks import LoopCallback, LoopControl, LoopEvent, WindowReport
from tensor_optix.runs.curve import draw_curve
from tensor_optix.runs.report import closing_report, outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.runs.record import TrainingRecord
    from tensor_optix.runs.report import Outcome
    from tensor_optix.runs.run_directory import RunConfig, RunDirectory

logger = logging.getLogger(__name__)


class RunFiles(LoopCallback):
    """Describes a run in its directory with its first window, and reports on it when it ends.

    Args:
        directory: Of the run.
        describe: Tells what was asked for, once there are environments.
        record: Of the run; hears of everything through this.
    """

    def __init__(
        self, directory: RunDirectory, describe: Callable[[], RunConfig], record: TrainingRecord
    ) -> None:
        self._directory = directory
        self._describe = describe
        self._record = record
        self._config: RunConfig | None = None

    def on_attach(self, control: LoopControl) -> None:
        """Keep the loop, which knows the best policy."""
        self._control = control

    def on_loop_start(self) -> None:
        """Start the clock."""
        self._record.on_loop_start()

    def on_window(self, report: WindowReport) -> None:
        """Keep a window; with the first one, write `run.json`."""
        self._record.on_window(report)
        if self._config is None:
            self._config = self._describe()
            self._directory.describe(self._config)

    def on_event(self, event: LoopEvent) -> None:
        """Keep a decision."""
        self._record.on_event(event)

    def state_dict(self) -> dict[str, Any]:
        """Return the record."""
        return self._record.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the record."""
        self._record.load_state_dict(state)

    def on_loop_stop(self) -> None:
        """Write the curve and the report, if there was a window."""
        if self._config is None:
            return
        outcome = outcome_of(self._record.stop, self._control.best_snapshot)
        leave_report(self._record, self._config, self._directory, outcome, _log)


def leave_report(
    record: TrainingRecord,
    config: RunConfig,
    directory: RunDirectory,
    outcome: Outcome,
    complain: Callable[[str], None],
) -> str:
    """Write the report and, where Matplotlib is installed, the curve; what cannot be written is left out.

    Args:
        record: Of the run.
        config: Of the run.
        directory: Takes the files.
        outcome: How the run ended.
        complain: Is told what could not be written.

    Returns:
        The report.
    """
    if importlib.util.find_spec("matplotlib") is not None:
        attempt(lambda: draw_curve(record, config, directory.curve), complain)
    # So that the report, which lists the files, is among them if it can be.
    attempt(directory.report.touch, complain)
    text = closing_report(record, config, directory, outcome)
    if directory.report.exists():
        attempt(lambda: directory.report.write_text(text, encoding="utf-8"), complain)
    return text


def attempt(write: Callable[[], object], complain: Callable[[str], None]) -> None:
    """Write something, or tell why not."""
    try:
        write()
    except Exception as error:
        complain(f"error: not written: {type(error).__name__}: {error}")


def _log(text: str) -> None:
    logger.warning(text)
