"""Does PPO learn the same whatever the unit of the rewards? Trains on one environment with rewards scaled.

    python -m benchmarks.reward_scale --framework tensorflow

For each scale and seed: the greedy return that the policy reaches, and the mean return of all episodes on the
way there, which also tells how fast it was. Both in the environment's own unit.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
from typing import Any

import numpy as np

from benchmarks.learning_cases import CASES, Case
from benchmarks.learning_table import FRAMEWORKS, FRESH_SEED, use_one_thread
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import make_vector_env

TASKS = ("cartpole-ppo", "pendulum-ppo")
SCALES = (1e-4, 1.0, 1e4, 1e5)
EPISODES = 20


def train(case: Case, scale: float, seed: int, framework: str) -> tuple[float, float]:
    """Train once on scaled rewards; return the greedy return, and that of the episodes on the way."""
    agent, pipeline = case.build(seed, framework)
    pipeline.set_agent(agent)
    pipeline.seed(seed)
    finished: list[Any] = []
    for window in itertools.islice(pipeline.episodes(), case.windows):
        finished.append(window.finished_returns)
        agent.learn(dataclasses.replace(window, rewards=scale * np.asarray(window.rewards)))
    pipeline.teardown()
    env = make_vector_env(case.env_id, 10, seed=FRESH_SEED + seed)
    returns, _ = play_episodes(agent, env, EPISODES)
    env.close()
    return float(returns.mean()), float(np.concatenate(finished).mean())


def main() -> None:
    """Make all runs, and print a row per scale as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", nargs="?", choices=TASKS, default=TASKS[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--scales", type=float, nargs="*", default=SCALES)
    arguments = parser.parse_args()
    use_one_thread(arguments.framework)
    case = dataclasses.replace(
        CASES[arguments.task], steps=arguments.steps, normalize_rewards=False
    )
    print("| rewards times | greedy, median | each seed | on the way, median | each seed |")
    print("|---|---|---|---|---|")
    for scale in arguments.scales:
        runs = [train(case, scale, s, arguments.framework) for s in range(arguments.seeds)]
        cells = [
            f"{statistics.median(each):.1f} | {', '.join(f'{one:.0f}' for one in each)}"
            for each in zip(*runs, strict=True)
        ]
        print(f"| {scale:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
