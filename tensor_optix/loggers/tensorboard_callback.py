"""A run on TensorBoard, by TensorBoard's own messages and records: no framework is needed, or loaded."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensor_optix.loggers.extras import importing
from tensor_optix.loggers.scalar_callback import ScalarCallback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.core.types import PathLike


class TensorBoardCallback(ScalarCallback):
    """Writes the scalars of `loggers.scalar_callback.SCALARS`, by environment steps, and decisions as texts.

    `tensorboard --logdir runs` shows what is below `runs`. A resumed run goes on in the same directory.

    Args:
        log_dir: Where the event file is written; a directory for each run. It is made.

    Raises:
        ImportError: If TensorBoard is not installed.

    Examples:
        >>> from tensor_optix import BatchPipeline, RLOptimizer, TensorBoardCallback, make_agent
        >>> pipeline = BatchPipeline(env_id="CartPole-v1", window_size=128)
        >>> agent, board = make_agent("CartPole-v1", framework="native"), TensorBoardCallback("runs/cart")
        >>> RLOptimizer(agent, pipeline, max_episodes=2, callbacks=[board]).run()
    """

    def __init__(self, log_dir: PathLike) -> None:
        super().__init__()
        with importing("tensorboard"):
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.plugins.text import summary_v2

            # Not its writer of whole files, which loads TensorFlow where that is installed.
            from tensorboard.summary.writer.record_writer import RecordWriter
        self._directory = Path(log_dir).expanduser()
        self._events, self._summaries = event_pb2, summary_pb2
        self._text_summary, self._make_writer = summary_v2.text_pb, RecordWriter

    def open(self) -> None:
        """Begin an event file; what an earlier one has of windows that come again does not count."""
        self._begin_file()
        if self.resumed_at is not None:
            status = self._events.SessionLog(status=self._events.SessionLog.START)
            self._add(self.resumed_at + 1, session_log=status)

    def write(self, row: Mapping[str, float], steps: int) -> None:
        """Write the scalars."""
        value = self._summaries.Summary.Value
        values = [value(tag=name, simple_value=number) for name, number in row.items()]
        self._add(steps, summary=self._summaries.Summary(value=values))

    def tell(self, kind: str, text: str, steps: int) -> None:
        """Write a text."""
        self._add(steps, summary=self._text_summary(f"events/{kind}", text))

    def show(self, name: str, picture: PathLike, steps: int) -> None:
        """Add a PNG, such as the learning curve; also after the run.

        Args:
            name: Its tag.
            picture: The file.
            steps: Environment steps that it belongs to.
        """
        summary = self._summaries.Summary
        image = summary.Image(encoded_image_string=Path(picture).read_bytes())
        self._begin_file()
        self._add(steps, summary=summary(value=[summary.Value(tag=name, image=image)]))
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _begin_file(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        # Files are read in the order of their names.
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self._writer = self._make_writer((self._directory / name).open("xb"))
        self._add(0, file_version="brain.Event:2")

    def _add(self, steps: int, **content: Any) -> None:
        event = self._events.Event(wall_time=time.time(), step=steps, **content)
        self._writer.write(event.SerializeToString())
        self._writer.flush()
