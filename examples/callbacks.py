"""Callbacks: a table, TensorBoard, and a listener of your own that ends the run.

    python examples/callbacks.py
    tensorboard --logdir runs

Needs TensorBoard.
"""

import argparse
import csv

from tensor_optix import (
    CSVCallback,
    LoopCallback,
    RLOptimizer,
    TensorBoardCallback,
    VectorBatchPipeline,
    make_agent,
)

parser = argparse.ArgumentParser(description="Watch a run.")
parser.add_argument("--max-steps", type=int, default=60_000)
parser.add_argument("--log-dir", default="runs/watched")
arguments = parser.parse_args()


class EnoughIsEnough(LoopCallback):
    """Ends the run at the first window that scores more than 195."""

    def on_attach(self, control):
        self.control = control

    def on_window(self, report):
        if report.score is not None and report.score > 195.0:
            self.control.stop("195 was enough")


table = f"{arguments.log_dir}/progress.csv"
optimizer = RLOptimizer(
    agent=make_agent("CartPole-v1", "ppo", "native", seed=0),
    pipeline=VectorBatchPipeline(env_id="CartPole-v1", num_envs=8, window_size=128),
    callbacks=[TensorBoardCallback(arguments.log_dir), CSVCallback(table), EnoughIsEnough()],
    max_steps=arguments.max_steps,
    seed=0,
)
optimizer.run()

with open(table, newline="") as lines:
    rows = list(csv.DictReader(lines))
scores = [float(row["rollout/ep_rew_mean"]) for row in rows if row["rollout/ep_rew_mean"]]
print(
    f"{len(rows)} windows are in {table}; the scores rose from {scores[0]:.0f} to {scores[-1]:.0f}."
)
