"""A program that may be killed and started again at any time.

    python examples/resume.py
    python examples/resume.py

Press Ctrl-C in the middle, or end it with `kill -9`: started again, it goes on where its newest
checkpoint was taken. Here it stops by itself at half its steps the first time, so that the second
time there is something left.
"""

import argparse
from pathlib import Path

import gymnasium

import tensor_optix
from tensor_optix import RLOptimizer, VectorBatchPipeline, make_agent

parser = argparse.ArgumentParser(description="Train in two sittings.")
parser.add_argument("--max-steps", type=int, default=60_000, help="of both sittings together")
parser.add_argument("--run-dir", default="runs/two_sittings")
arguments = parser.parse_args()

is_second = Path(arguments.run_dir, "run.json").exists()
optimizer = RLOptimizer(
    agent=make_agent("CartPole-v1", "ppo", "native", seed=0),
    pipeline=VectorBatchPipeline(env_id="CartPole-v1", num_envs=8, window_size=64, backend="sync"),
    run_dir=arguments.run_dir,
    resume=True,
    max_steps=arguments.max_steps if is_second else arguments.max_steps // 2,
    seed=0,
)
optimizer.run()

policy = tensor_optix.load(arguments.run_dir)
env = gymnasium.make("CartPole-v1")
observation, _ = env.reset(seed=1)
steps, is_over = 0, False
while not is_over:
    observation, _, terminated, truncated, _ = env.step(policy.predict(observation))
    steps, is_over = steps + 1, terminated or truncated
sitting = "second" if is_second else "first"
print(
    f"After the {sitting} sitting the best policy balances a fresh pole for {steps} of 500 steps."
)
