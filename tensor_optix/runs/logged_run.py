"""A run as its log tells it: a run directory comes in, its record goes out, whether or not it has ended."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core import callbacks
from tensor_optix.core.callbacks import (
    Chosen,
    Ending,
    Forked,
    Forking,
    Recovered,
    Resumed,
    Rollback,
    Start,
    Stop,
    Tuned,
    WindowReport,
)
from tensor_optix.core.checkpoints.saved_state import CheckpointError, reading
from tensor_optix.core.decisions.convergence import PlateauTest
from tensor_optix.core.types import LoopState
from tensor_optix.runs.record import Decision, TrainingRecord
from tensor_optix.runs.run_directory import RunDirectory, RunDirectoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tensor_optix.core.types import Array
    from tensor_optix.runs.run_directory import RunConfig

_KINDS = {
    one.kind: one
    for one in vars(callbacks).values()
    if isinstance(one, type) and issubclass(one, callbacks.LoopEvent) and "kind" in vars(one)
}
_MOST_POINTS = 10**9
"""Of a curve: the log is read once, and nothing else waits for the memory."""


@dataclass
class LoggedRun:
    """What the log of a run says."""

    directory: RunDirectory
    config: RunConfig
    record: TrainingRecord
    decisions: list[Decision] = field(default_factory=list)
    """Every event of the log, also those that the record does not show."""
    window_steps: list[int] = field(default_factory=list)
    """Environment steps at the end of each window."""
    window_seconds: list[float] = field(default_factory=list)
    """Seconds of training then."""
    damaged: int = 0
    """Lines that could not be read: a killed process may leave half a line."""

    @property
    def damage(self) -> str:
        """Say what could not be read; empty where all could."""
        if not self.damaged:
            return ""
        lines = "1 line" if self.damaged == 1 else f"{self.damaged} lines"
        return f"{lines} of the log cannot be read, and {'is' if self.damaged == 1 else 'are'} left out"

    @property
    def has_scores(self) -> bool:
        """Whether anything was scored."""
        return bool(self.record.scores)

    @property
    def final_score(self) -> float:
        """The score of the policy that the run kept, as its report has it; NaN where nothing was scored."""
        stop = self.record.stop
        if stop is not None and stop.best is not None:
            return stop.best
        return self.record.bests[-1] if self.record.bests else math.nan

    @property
    def chosen(self) -> set[str]:
        """The options that were chosen by the look at the environment, not given."""
        return {made.event.option for made in self.decisions if isinstance(made.event, Chosen)}

    @property
    def experiments(self) -> list[tuple[int, int]]:
        """From which step to which other hyperparameters than the accepted ones were tried."""
        spans, begun = [], None
        for made in [*self.decisions, None]:
            match made and made.event:
                case Tuned(effective=effective, accepted=accepted):
                    is_probing = accepted is not None and effective != accepted
                case Forking():
                    is_probing = True
                case Forked() | Recovered() | Rollback() | None:
                    is_probing = False
                case _:
                    continue
            at = self.record.total_steps if made is None else made.total_steps
            if begun is not None and not is_probing:
                spans.append((begun, at))
                begun = None
            elif begun is None and is_probing:
                begun = at
        return spans

    def seconds_at(self, steps: Any) -> Array:
        """Return the seconds of training when so many environment steps were made.

        Args:
            steps: A number or an array of them.
        """
        if not self.window_steps:
            return np.zeros_like(np.asarray(steps, np.float64))
        known = [0, *self.window_steps], [0.0, *self.window_seconds]
        return np.asarray(np.interp(steps, *known), np.float64)


def read_run(path: Path) -> LoggedRun:
    """Read the log of a run; what is damaged of it is left out, and counted.

    Args:
        path: The run directory.

    Raises:
        RunDirectoryError: If it holds no run.
    """
    directory = RunDirectory(path)
    if not directory.path.is_dir():
        raise RunDirectoryError(f"{directory.path} is no directory; give that of a run")
    config = directory.read_config()
    replay = _Replay(directory, config)
    replay.read()
    return replay.run


class _Replay:
    """Tells a record what the log says, in the order in which it happened.

    Args:
        directory: Of the run.
        config: Of the run.
    """

    def __init__(self, directory: RunDirectory, config: RunConfig) -> None:
        self._now = 0.0
        record = TrainingRecord(clock=lambda: self._now, most_points=_MOST_POINTS)
        self.run = LoggedRun(directory, config, record)
        self._begun: float | None = None
        """The time of day at second 0 of training, had there been no pause."""

    def read(self) -> None:
        """Read both files."""
        directory = self.run.directory
        waiting = list(self._lines(directory.events))[::-1]
        for row in self._lines(directory.metrics):
            # A window is logged after what was decided in it.
            while waiting and _window(waiting[-1]) <= _window(row):
                self._take(self._take_event, waiting.pop())
            self._take(self._take_window, row)
        while waiting:
            self._take(self._take_event, waiting.pop())

    def _take(self, take: Callable[[dict[str, Any]], None], row: dict[str, Any]) -> None:
        """Take what a line says; one damaged line more, where that is not all there."""
        try:
            with reading("a line"):
                take(row)
        except CheckpointError:
            self.run.damaged += 1

    def _take_window(self, row: dict[str, Any]) -> None:
        report = WindowReport(**_arguments(WindowReport, row))
        self._now = max(self._now, report.seconds)
        self.run.record.on_window(report)
        self.run.window_steps.append(report.total_steps)
        self.run.window_seconds.append(report.seconds)

    def _take_event(self, row: dict[str, Any]) -> None:
        if row["kind"] not in _KINDS:
            return
        event = _KINDS[row["kind"]](**_arguments(_KINDS[row["kind"]], row))
        time = float(row["time"])
        if isinstance(event, Start | Resumed) or self._begun is None:
            seconds = event.seconds if isinstance(event, Resumed) else self._now
            self._begun = time - seconds
            self.run.record.stop = None
        self._now = max(self._now, time - self._begun)
        self.run.record.on_event(event)
        self.run.decisions.append(Decision(event, self._now))

    def _lines(self, path: Path) -> Iterator[dict[str, Any]]:
        if not path.is_file():
            return
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                if isinstance(row, dict):
                    yield row
                else:
                    self.run.damaged += 1


def _window(row: dict[str, Any]) -> int:
    number = row.get("episode_id")
    return number if isinstance(number, int) else 0


_WHOLE = ("total_steps", "num_steps", "episode_id")
_REAL = (*_WHOLE, "seconds", "score", "smoothed", "best")
_MAY_LACK = ("score", "smoothed", "best")


def _arguments(kind: type[Any], row: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a kind from a line that holds them as readable JSON.

    Raises:
        KeyError: If one is missing, or of another name than the kinds of its Enum have.
        TypeError: If what must be a finite number is none.
    """
    found = {
        one.name: row[one.name]
        for one in fields(kind)
        if one.name in row or (one.default is MISSING and one.default_factory is MISSING)
    }
    for name in _REAL:
        if name in found and not _is_number(name, found[name]):
            raise TypeError(f"{name} must be a number, got {found[name]!r}")
    if kind is WindowReport:
        found["state"] = LoopState[found["state"]]
    if kind is Stop:
        found["ending"] = Ending[found["ending"]]
    if found.get("plateau_test") is not None:
        found["plateau_test"] = _plateau_test(found["plateau_test"])
    return found


def _is_number(name: str, value: Any) -> bool:
    if value is None:
        return name in _MAY_LACK
    if isinstance(value, bool) or not isinstance(value, int if name in _WHOLE else int | float):
        return False
    return math.isfinite(value)


def _plateau_test(stored: dict[str, Any]) -> PlateauTest:
    """Return the test; JSON has no NaN."""
    known = dict(stored)
    for name in ("horizons", "improvements", "uncertainties"):
        known[name] = tuple(math.nan if one is None else float(one) for one in known[name])
    return PlateauTest(**known)
