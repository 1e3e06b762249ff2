"""The log of a run on disk: window reports and events come in, two files of JSON lines go out.

`metrics.jsonl` has a line per window, `events.jsonl` a line per decision with its numbers.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tensor_optix.core.callbacks import LoopCallback, LoopEvent, WindowReport
from tensor_optix.core.json_values import to_readable_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.core.types import PathLike

METRICS_FILE = "metrics.jsonl"
EVENTS_FILE = "events.jsonl"


class RunLog(LoopCallback):
    """Writes what the loop does into a directory, line by line, so that a killed run leaves its log.

    Args:
        directory: Of this run; made when the run begins.

    Raises:
        ValueError: If the directory holds another run's log.
    """

    def __init__(self, directory: PathLike) -> None:
        self._directory = Path(directory)
        for name in (METRICS_FILE, EVENTS_FILE):
            if (self._directory / name).exists():
                raise ValueError(
                    f"{self._directory} holds another run ({name}); choose a new directory"
                )
        self._metrics: TextIO | None = None
        self._events: TextIO | None = None

    def on_loop_start(self) -> None:
        """Open the files."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._metrics = (self._directory / METRICS_FILE).open("a", encoding="utf-8")
        self._events = (self._directory / EVENTS_FILE).open("a", encoding="utf-8")

    def on_window(self, report: WindowReport) -> None:
        """Write a window's figures."""
        _write(self._metrics, asdict(report))

    def on_event(self, event: LoopEvent) -> None:
        """Write a decision."""
        row = {"kind": event.kind, "episode_id": event.episode_id}
        row |= {"total_steps": event.total_steps, "time": time.time()}
        _write(self._events, row | event.numbers)

    def on_loop_stop(self) -> None:
        """Close the files."""
        for stream in (self._metrics, self._events):
            if stream is not None:
                stream.close()


def _write(stream: TextIO | None, row: Mapping[str, Any]) -> None:
    if stream is None or stream.closed:
        return
    stream.write(json.dumps(to_readable_json(row), allow_nan=False) + "\n")
    stream.flush()
