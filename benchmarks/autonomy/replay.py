"""Does the loop stop where it should? Replays recorded learning curves through its scheduler.

    python -m benchmarks.autonomy.replay

What a policy was worth at each window is taken from the whole curve: the mean of the last 20 evaluations;
what a run has reached is the best of these so far, counted from where it began, so that a shift of all
scores changes nothing. A stop is false where the run had gained less than 95 % of what the full budget
gained. It is late by how much it exceeds 1.5 times the window at which 99 % were first gained, plus 20
evaluations.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.autonomy.curve_cases import HELD_OUT
from tensor_optix.algorithms.dqn import DQN as DQNAgent
from tensor_optix.algorithms.sac import SAC as SACAgent
from tensor_optix.core.backoff_scheduler import AutoScheduler
from tensor_optix.core.types import LoopState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.types import Array

CURVES = Path(__file__).parent / "curves"
SMOOTHING = 20
MARK = " †"
LEAST_EVALUATIONS = {
    "dqn": DQNAgent.default_min_episodes_before_dormant,
    "sac": SACAgent.default_min_episodes_before_dormant,
}


@dataclass(frozen=True)
class Curve:
    """The score of every window of one run over its whole budget; NaN where no episode finished."""

    name: str
    scores: Array
    steps_per_window: int
    least_evaluations: int = 0
    """Before the algorithm's agents let the loop rest."""

    @classmethod
    def read(cls, path: Path) -> Curve:
        stored = json.loads(path.read_text())
        scores = [math.nan if score is None else score for score in stored["scores"]]
        least = LEAST_EVALUATIONS.get(stored["algorithm"], 0)
        return cls(path.stem, np.array(scores), stored["steps_per_window"], least)

    def scheduler(self) -> AutoScheduler:
        """Return a scheduler as `RLOptimizer` would make it."""
        return AutoScheduler(min_episodes_before_dormant=self.least_evaluations)

    @property
    def reached(self) -> Array:
        """What the run had reached by each window: the best mean of 20 evaluations in a row so far."""
        means = [self._mean(end) for end in range(1, len(self.scores) + 1)]
        return np.maximum.accumulate(np.array(means))

    def _mean(self, end: int) -> float:
        block = self.scores[max(0, end - SMOOTHING) : end]
        block = block[np.isfinite(block)]
        return float(block.mean()) if len(block) else -math.inf


@dataclass(frozen=True)
class Stop:
    """Where a run would have stopped, and what that would have cost."""

    name: str
    window: int
    """The last window; that of the budget where it would not have stopped."""
    stopped: bool
    share: float
    """What was reached by then, as a share of what the full budget reached."""
    gain_share: float
    """The same of what was gained over the first evaluations."""
    first_99: int
    """The window at which 99 % were first reached."""
    evaluations: int

    @property
    def lateness(self) -> float:
        """The window of the stop as a multiple of what is allowed; above 1 it is late."""
        return self.window / (1.5 * self.first_99 + 20)


def replay(curve: Curve, scheduler: AutoScheduler, smoothing: int = 2) -> Stop:
    """Feed the scheduler as the loop does, until it rests."""
    evaluated: list[float] = []
    window, stopped, is_due = 0, False, True
    for window, score in enumerate(curve.scores.tolist()):
        is_due = scheduler.should_adapt(window) or is_due
        if not math.isfinite(score) or not is_due:
            continue
        is_due = False
        evaluated.append(score)
        smoothed = statistics.fmean(evaluated[-smoothing:])
        if len(evaluated) == 1:
            scheduler.record_improvement(smoothed)
            continue
        scheduler.decide(score, smoothed)
        if scheduler.current_state is LoopState.DORMANT:
            stopped = True
            break
    return _stop(curve, window, stopped, len(evaluated))


def _stop(curve: Curve, window: int, stopped: bool, evaluations: int) -> Stop:
    reached = curve.reached
    full, start = reached[-1], reached[np.isfinite(reached)][0]
    gained = full > start
    gains = (reached - start) / (full - start) if gained else np.ones(len(reached))
    return Stop(
        name=curve.name,
        window=window,
        stopped=stopped,
        share=1.0 - float(full - reached[window]) / max(abs(full), 1e-9),
        gain_share=float(gains[window]),
        first_99=int(np.argmax(gains >= 0.99)),
        evaluations=evaluations,
    )


def summary(stops: Sequence[Stop]) -> dict[str, Any]:
    """Return the figures that count."""
    return {
        "curves": len(stops),
        "stopped": sum(stop.stopped for stop in stops),
        "false stops": sum(stop.stopped and stop.gain_share < 0.95 for stop in stops),
        "false stops by the plain score": sum(
            stop.stopped and bool(stop.share < 0.95) for stop in stops
        ),
        "median lateness": round(statistics.median(stop.lateness for stop in stops), 2),
        "mean regret": round(statistics.fmean(1.0 - stop.gain_share for stop in stops), 4),
        "share of the budget used": round(
            sum(stop.window for stop in stops) / max(sum(_budget(stop) for stop in stops), 1), 3
        ),
    }


def is_held_out(stop: Stop) -> bool:
    """Whether no threshold was chosen by the runs of this setting."""
    return stop.name.rsplit("-", 1)[0] in HELD_OUT


def _budget(stop: Stop) -> int:
    return len(Curve.read(CURVES / f"{stop.name}.json").scores)


def main() -> None:
    """Replay every curve; print a row for each, and the figures of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=CURVES)
    arguments = parser.parse_args()
    stops = []
    print("| curve | stop at window | of | reached | gained | 99 % at window | evaluations |")
    print("|---|---|---|---|---|---|---|")
    for path in sorted(arguments.directory.glob("*.json")):
        curve = Curve.read(path)
        stop = replay(curve, curve.scheduler())
        stops.append(stop)
        print(
            f"| {stop.name}{MARK * is_held_out(stop)} | "
            f"{stop.window if stop.stopped else 'none'} | {len(curve.scores)} | {stop.share:.3f} | "
            f"{stop.gain_share:.3f} | {stop.first_99} | {stop.evaluations} |"
        )
    print(f"\n{MARK.strip()}: held out")
    for title, chosen in (("all", stops), ("held out", list(filter(is_held_out, stops)))):
        print(f"\n{title}:\n")
        for name, value in summary(chosen).items() if chosen else ():
            print(f"* {name}: {value}")


if __name__ == "__main__":
    main()
