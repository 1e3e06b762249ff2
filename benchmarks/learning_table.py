"""How well does each algorithm learn? Trains on several seeds, plays the returned policies greedily.

    python -m benchmarks.learning_table --seeds 5 --results learning.jsonl > table.md
    python -m benchmarks.learning_table cartpole-ppo --framework tensorflow

Every run is one line of the results file; runs that are in it already are not made again, so that the cases
may be shared among several processes. The table of all of them is printed at the end.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.learning_cases import CASES, Case
from tensor_optix import RLOptimizer, VectorBatchPipeline
from tensor_optix.core.callbacks import LoopCallback
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import make_vector_env

if TYPE_CHECKING:
    from tensor_optix.core.types import PolicySnapshot

EPISODES = 20
FRESH_SEED = 987_654
FRAMEWORKS = ("native", "torch", "tensorflow")


class _Enough(LoopCallback):
    """Ends a run once a score is reached."""

    def __init__(self, score: float, optimizer: RLOptimizer) -> None:
        self._score = score
        self._optimizer = optimizer

    def on_improvement(self, snapshot: PolicySnapshot) -> None:
        if snapshot.eval_metrics.primary_score >= self._score:
            self._optimizer.stop(f"a score of {self._score:g} was reached")


def train(case: Case, seed: int, framework: str = "torch") -> dict[str, Any]:
    """Train once, and play the policy that comes back."""
    agent, pipeline = case.build(seed, framework)
    validation = None
    if case.validation_envs:
        validation = VectorBatchPipeline(
            env_id=case.env_id, num_envs=case.validation_envs, window_size=128
        )
    with tempfile.TemporaryDirectory() as place:
        run_dir = Path(place) / "run"
        optimizer = RLOptimizer(
            agent,
            pipeline,
            val_pipeline=validation,
            max_episodes=case.windows,
            dormant_threshold=None if case.stops_by_itself else case.windows,
            seed=seed,
            run_dir=run_dir,
        )
        if case.enough is not None:
            optimizer.add_callback(_Enough(case.enough, optimizer))
        begun = time.perf_counter()
        optimizer.run()
        seconds = time.perf_counter() - begun
        end = json.loads((run_dir / "events.jsonl").read_text().splitlines()[-1])
    env = make_vector_env(case.env_id, 10, seed=FRESH_SEED + seed)
    returns, _ = play_episodes(agent, env, EPISODES)
    env.close()
    return {
        "steps": end["total_steps"],
        "seconds": round(seconds, 1),
        "greedy": round(float(returns.mean()), 3),
        "reason": end["reason"],
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Return the results as Markdown, a row per case."""
    lines = [
        "| case | framework | environment | steps at most | goal | median | each seed | steps taken | "
        "seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (name, case), framework in itertools.product(CASES.items(), FRAMEWORKS):
        mine = [run for run in runs if (run["case"], run["framework"]) == (name, framework)]
        mine.sort(key=lambda run: run["seed"])
        if not mine:
            continue
        median = {k: statistics.median(r[k] for r in mine) for k in ("greedy", "steps", "seconds")}
        each = ", ".join(_score(run["greedy"]) for run in mine)
        lines.append(
            f"| {name} | {framework} | {case.env_id} | {case.steps:,} | {case.goal:g} | "
            f"{_score(median['greedy'])} | {each} | {median['steps']:,.0f} | {median['seconds']:.0f} |"
        )
    return "\n".join(lines)


def _score(score: float) -> str:
    """Return a score with as many decimals as its size leaves of interest."""
    return f"{score:.0f}" if abs(score) >= 100 else f"{score:.3g}"


def main() -> None:
    """Make the runs that are asked for and not there yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--results", type=Path, default=Path("learning.jsonl"))
    arguments = parser.parse_args()
    framework = arguments.framework
    use_one_thread(framework)
    for name in arguments.cases or CASES:
        for seed in range(arguments.first_seed, arguments.seeds):
            run = {"case": name, "framework": framework, "seed": seed}
            if any(run.items() <= made.items() for made in _read(arguments.results)):
                continue
            result = run | train(CASES[name], seed, framework)
            with arguments.results.open("a") as results:
                results.write(json.dumps(result) + "\n")
    print(table(_read(arguments.results)))


def use_one_thread(framework: str) -> None:
    """Leave the other cores to other runs."""
    if framework == "torch":
        import torch

        torch.set_num_threads(1)
    if framework == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main()
