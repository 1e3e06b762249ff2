"""Does a long run grow? Trains for an hour, and shows memory, open files and threads as time goes by.

    python -m benchmarks.soak ppo --seconds 3600
    python -m benchmarks.soak sac --seconds 3600 --results soak.jsonl

`ppo`: the native engine on EnvPool's CartPole-v1, which never stops by itself here, so that windows, scores,
decisions and checkpoints come as fast as they can. `sac`: Pendulum-v1 with a replay of a million rows, which
is filled beforehand: what is left to grow is a leak.

Memory is the resident set of the process and of those that it has started, from /proc (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tensor_optix import RLOptimizer, VectorBatchPipeline, make_agent
from tensor_optix.core.callbacks import LoopCallback, WindowReport
from tensor_optix.core.types import HyperparamSet, Transitions

WARM_UP = 0.1
"""The share of the time after which nothing is to grow."""
REPLAY_ROWS = 1_000_000
EPISODE_STEPS = 200


class Meter(LoopCallback):
    """Measures the process every so many seconds, and ends the run."""

    def __init__(self, seconds: float, interval: float = 10.0) -> None:
        self._seconds = seconds
        self._interval = interval
        self._begun = time.perf_counter()
        self._next = 0.0
        self.rows: list[dict[str, Any]] = []

    def use(self, optimizer: RLOptimizer) -> None:
        self._optimizer = optimizer
        self._begun = time.perf_counter()

    def on_window(self, report: WindowReport) -> None:
        seconds = time.perf_counter() - self._begun
        if seconds >= self._next:
            self._next = seconds + self._interval
            self.rows.append(measured() | {"seconds": round(seconds, 1), **progress(report)})
        if seconds >= self._seconds:
            self._optimizer.stop("the time is over")


def progress(report: WindowReport) -> dict[str, int]:
    return {"windows": report.episode_id + 1, "steps": report.total_steps}


def measured() -> dict[str, Any]:
    """Return memory in MB, open files and threads of this process."""
    status = Path("/proc/self/status").read_text()
    lines = (line.split() for line in status.splitlines())
    values = {words[0].rstrip(":"): words[1] for words in lines if len(words) > 1}
    return {
        "memory_mb": round(int(values["VmRSS"]) / 1024, 1),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": int(values["Threads"]),
    }


def ppo() -> tuple[Any, VectorBatchPipeline]:
    pipeline = VectorBatchPipeline(env_id="CartPole-v1", num_envs=8, window_size=128)
    return make_agent(pipeline.env, "ppo", framework="native", seed=0), pipeline


def sac() -> tuple[Any, VectorBatchPipeline]:
    pipeline = VectorBatchPipeline(env_id="Pendulum-v1", num_envs=1, window_size=1000)
    params = HyperparamSet({"replay_capacity": REPLAY_ROWS, "batch_size": 64})
    agent = make_agent(
        pipeline.env, "sac", framework="native", seed=0, hidden_sizes=(64, 64), hyperparams=params
    )
    fill(agent)
    return agent, pipeline


def fill(agent: Any) -> None:
    """Fill the replay of an agent of Pendulum-v1 with made-up episodes of its length, without updates."""
    rng = np.random.default_rng(0)
    first = agent.get_hyperparams()
    agent.set_hyperparams(HyperparamSet({"learning_starts": 2 * REPLAY_ROWS}))
    reward, never, ids = np.zeros(1, np.float32), np.zeros(1, bool), np.zeros(1, np.int64)
    seen = rng.normal(size=(1, 3)).astype(np.float32)
    for step in range(1, REPLAY_ROWS + 1001):
        action = rng.uniform(-1, 1, (1, 1)).astype(np.float32)
        following = rng.normal(size=(1, 3)).astype(np.float32)
        is_last = np.array([step % EPISODE_STEPS == 0])
        agent.observe(Transitions(seen, action, reward, following, never, is_last, ids, 1))
        seen = rng.normal(size=(1, 3)).astype(np.float32) if is_last[0] else following
    agent.set_hyperparams(first)


CASES = {"ppo": ppo, "sac": sac}


def soak(case: str, seconds: float, run_dir: Path) -> list[dict[str, Any]]:
    agent, pipeline = CASES[case]()
    meter = Meter(seconds)
    optimizer = RLOptimizer(
        agent,
        pipeline,
        seed=0,
        run_dir=run_dir,
        dormant_threshold=10**9,
        callbacks=[meter],
        finalists=0,
    )
    meter.use(optimizer)
    optimizer.run()
    return meter.rows


def table(rows: list[dict[str, Any]], seconds: float) -> str:
    """Return the figures at a tenth of the time and every tenth after it, and how far they went."""
    after = [row for row in rows if row["seconds"] >= WARM_UP * seconds]
    shown = after[:: max(1, len(after) // 10)]
    lines = ["| seconds | windows | steps | memory (MB) | open files | threads |", "|" + "---|" * 6]
    for row in shown:
        names = ("seconds", "windows", "steps", "memory_mb", "files", "threads")
        lines.append("| " + " | ".join(f"{row[name]:,}" for name in names) + " |")
    first, last = after[0]["memory_mb"], after[-1]["memory_mb"]
    most = max(row["memory_mb"] for row in after)
    lines.append("")
    lines.append(
        f"memory after the warm-up: {first:,} MB, at the end {last:,} MB ({last / first - 1:+.1%}), at most "
        f"{most:,} MB ({most / first - 1:+.1%})"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("case", choices=sorted(CASES))
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--results", type=Path)
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        rows = soak(arguments.case, arguments.seconds, directory / "run")
    finally:
        shutil.rmtree(directory)
    if arguments.results is not None:
        with arguments.results.open("a") as file:
            for row in rows:
                print(json.dumps({"case": arguments.case, **row}), file=file)
    print(table(rows, arguments.seconds))


if __name__ == "__main__":
    main()
