"""What do a run's checkpoints cost? One run, in which stretches with and without them follow one another.

    python -m benchmarks.checkpoint_cost --seconds 240

`ppo`: the native engine on EnvPool's CartPole-v1. `sac`: Pendulum-v1 with a full replay of a million
rows. In the stretches with checkpoints they come as fast as the bound on their cost lets them
(`checkpoint_seconds=0`), which is the most that any interval costs. The machine's own ups and downs are
slower than a stretch: each pair of neighbours is compared, and the median of these ratios is what counts.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.soak import CASES
from tensor_optix import RLOptimizer
from tensor_optix.core.callbacks import LoopCallback, WindowReport
from tensor_optix.core.checkpoints.run_keeper import RunKeeper


@dataclass
class Stretch:
    """Windows of a few seconds, and what they took: wall clock, and processor time of all threads."""

    windows: int = 0
    seconds: float = 0.0
    processor: float = 0.0
    checkpoints: int = 0


class Stretches(LoopCallback):
    """Ends a stretch after so many seconds; every second one is with checkpoints, the first one without."""

    def __init__(self, seconds: float, each: float) -> None:
        self._seconds = seconds
        self._each = each
        self._last: tuple[float, float] | None = None
        self.all: list[Stretch] = [Stretch()]

    def use(self, optimizer: RLOptimizer) -> None:
        self._optimizer = optimizer

    @property
    def has_checkpoints(self) -> bool:
        return len(self.all) % 2 == 0

    def on_window(self, report: WindowReport) -> None:
        now = (time.perf_counter(), time.process_time())
        if self._last is None:
            self._begun = now[0]
        else:
            stretch = self.all[-1]
            stretch.windows += 1
            stretch.seconds += now[0] - self._last[0]
            stretch.processor += now[1] - self._last[1]
            if stretch.seconds >= self._each:
                self.all.append(Stretch())
        self._last = now
        if now[0] - self._begun >= self._seconds:
            self._optimizer.stop("the time is over")


def measure(case: str, seconds: float, each: float) -> list[Stretch]:
    """Train, and return the stretches that were completed."""
    stretches = Stretches(seconds, each)
    keep, is_due = RunKeeper.keep, RunKeeper.is_due.fget

    def counted(keeper: RunKeeper, copy: object) -> None:
        stretches.all[-1].checkpoints += 1
        keep(keeper, copy)

    directory = Path(tempfile.mkdtemp(prefix="checkpoints-"))
    agent, pipeline = CASES[case]()
    optimizer = RLOptimizer(
        agent,
        pipeline,
        seed=0,
        run_dir=directory,
        dormant_threshold=10**9,
        checkpoint_seconds=0.0,
        callbacks=[stretches],
        finalists=0,
    )
    stretches.use(optimizer)
    asked = property(lambda keeper: stretches.has_checkpoints and is_due(keeper))
    try:
        with patch.object(RunKeeper, "is_due", asked), patch.object(RunKeeper, "keep", counted):
            optimizer.run()
    finally:
        shutil.rmtree(directory)
    return stretches.all[:-1]


def show(case: str, stretches: list[Stretch]) -> None:
    pairs = list(zip(stretches[::2], stretches[1::2], strict=False))
    for name in ("seconds", "processor"):
        costs = [
            getattr(beside, name) / beside.windows / (getattr(without, name) / without.windows) - 1
            for without, beside in pairs
        ]
        low, middle, high = np.quantile(costs, [0.25, 0.5, 0.75])
        error = 1.57 * (high - low) / math.sqrt(len(costs))  # of a median: McGill et al. 1978
        print(
            f"{case}: {name} a window {middle:+.2%} +- {error:.2%} (quartiles {low:+.2%}, {high:+.2%})"
        )
    made = [beside.checkpoints for _, beside in pairs]
    print(f"{case}: {len(pairs)} pairs, {sum(made)} checkpoints", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--each", type=float, default=3.0)
    arguments = parser.parse_args()
    for case in CASES:
        show(case, measure(case, arguments.seconds, arguments.each))


if __name__ == "__main__":
    main()
