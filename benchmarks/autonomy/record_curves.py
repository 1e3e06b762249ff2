"""Records learning curves: trains over the whole budget and keeps the score of every window.

    python -m benchmarks.autonomy.record_curves lunarlander-ppo --framework tensorflow

Each run becomes one small file in `curves/`; those that are there are not made again.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.autonomy.curve_cases import CURVE_CASES
from benchmarks.autonomy.replay import CURVES
from benchmarks.learning_table import FRAMEWORKS, use_one_thread
from tensor_optix import FixedHyperparams, RLOptimizer
from tensor_optix.core.callbacks import LoopCallback
from tensor_optix.core.types import EvalMetrics

if TYPE_CHECKING:
    from benchmarks.learning_cases import Case


class _Recorder(LoopCallback):
    """Keeps the score of every window, with how many episodes it is the mean of."""

    def __init__(self) -> None:
        self.scores: list[float | None] = []
        self.counts: list[int] = []
        self.stds: list[float | None] = []

    def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
        metrics = eval_metrics or EvalMetrics(math.nan, {}, episode_id)
        self.scores.append(_short(metrics.primary_score))
        self.counts.append(metrics.score_count)
        self.stds.append(_short(metrics.score_std))


def record(case: Case, seed: int, framework: str) -> dict[str, Any]:
    """Train over the whole budget, evaluate every window, stop for nothing."""
    agent, pipeline = case.build(seed, framework)
    recorder = _Recorder()
    with tempfile.TemporaryDirectory() as place:
        RLOptimizer(
            agent,
            pipeline,
            optimizer=FixedHyperparams(),
            checkpoint_dir=place,
            max_snapshots=1,
            finalists=0,
            max_episodes=case.windows,
            max_interval_episodes=1,
            dormant_threshold=case.windows + 1,
            callbacks=[recorder],
            seed=seed,
        ).run()
    return {
        "env_id": case.env_id,
        "algorithm": case.algorithm,
        "framework": framework,
        "seed": seed,
        "steps_per_window": case.num_envs * case.window_size,
        "scores": recorder.scores,
        "counts": recorder.counts,
        "stds": recorder.stds,
    }


def _short(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def main() -> None:
    """Record what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--framework", choices=FRAMEWORKS, default="tensorflow")
    parser.add_argument("--directory", type=Path, default=CURVES)
    arguments = parser.parse_args()
    use_one_thread(arguments.framework)
    for name in arguments.cases or CURVE_CASES:
        case, seeds = CURVE_CASES[name]
        for seed in range(seeds):
            path = arguments.directory / f"{name}-{seed}.json"
            if not path.exists():
                curve = record(case, seed, arguments.framework)
                path.write_text(json.dumps(curve, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
