"""A run as a table: a file of comma-separated values, a line for each window."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from tensor_optix.loggers.scalar_callback import STEPS, ScalarCallback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.core.types import PathLike


class CSVCallback(ScalarCallback):
    """Writes the scalars of `loggers.scalar_callback.SCALARS` into a file, a column each.

    A column that comes later makes the file be written anew. Decisions are not in it.

    Args:
        path: Of the file; one that is there is replaced, or gone on with in a resumed run and in a second
            `run()`. Its directory is made.

    Examples:
        >>> from pathlib import Path
        >>> from tensor_optix import BatchPipeline, CSVCallback, RLOptimizer, make_agent
        >>> pipeline = BatchPipeline(env_id="CartPole-v1", window_size=128)
        >>> agent = make_agent("CartPole-v1", framework="native")
        >>> RLOptimizer(agent, pipeline, max_episodes=2, callbacks=[CSVCallback("progress.csv")]).run()
        >>> Path("progress.csv").read_text().count("rollout/ep_rew_mean")
        1
    """

    def __init__(self, path: PathLike) -> None:
        super().__init__()
        self._path = Path(path).expanduser()
        self._columns: list[str] = []

    def open(self) -> None:
        """Begin the file, or find the lines that a resumed run, or a second one, keeps."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = self._lines() if self._columns else self._kept()
        self._columns = list(kept[0]) if kept else []
        self._write_anew(kept)

    def write(self, row: Mapping[str, float], steps: int) -> None:
        """Append a line."""
        if not row.keys() <= set(self._columns):
            self._columns += [name for name in row if name not in self._columns]
            self._write_anew(self._lines())
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(dict(row))

    def tell(self, kind: str, text: str, steps: int) -> None:
        """Do nothing: a table has no place for it."""

    def close(self) -> None:
        """Do nothing: the file is closed between two windows."""

    def _kept(self) -> list[dict[str, str]]:
        if self.resumed_at is None or not self._path.exists():
            return []
        return [one for one in self._lines() if float(one[STEPS] or 0.0) <= self.resumed_at]

    def _lines(self) -> list[dict[str, str]]:
        with self._path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _write_anew(self, lines: list[dict[str, str]]) -> None:
        unfinished = self._path.with_name(f".{self._path.name}.tmp")
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            if self._columns:
                writer.writeheader()
            writer.writerows(lines)
        unfinished.replace(self._path)
