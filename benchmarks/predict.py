"""How long a loaded policy takes for an action.

    python -m benchmarks.predict

Prints a table of microseconds for one call of `predict`: the least of 5 rounds of 10,000 calls with one
observation, and of 1,000 with a batch of 64. Networks are 64-64, observations are normalised.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

import tensor_optix
from tensor_optix import CheckpointRegistry, EvalMetrics, make_agent

if TYPE_CHECKING:
    from collections.abc import Callable

CASES = (
    *(("CartPole-v1", "ppo"), ("CartPole-v1", "dqn")),
    *(("Pendulum-v1", "ppo"), ("Pendulum-v1", "sac"), ("Pendulum-v1", "td3")),
)
ROUNDS = 5
BATCH = 64


def microseconds(call: Callable[[], Any], calls: int) -> float:
    """Return what a call took in the fastest round."""
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for _ in range(calls):
            call()
        best = min(best, (time.perf_counter() - begun) / calls)
    return 1e6 * best


def measure(env_id: str, algorithm: str, directory: Path) -> tuple[float, float, float]:
    """Return the times of one observation, with the best action and a drawn one, and of a batch."""
    env = gymnasium.make(env_id)
    agent = make_agent(
        env, algorithm, "native", hidden_sizes=(64, 64), normalize_observations=True, seed=0
    )
    agent.check_spaces(env.observation_space, env.action_space)
    registry = CheckpointRegistry(directory)
    registry.save(agent, EvalMetrics(1.0, {}, 0), agent.get_hyperparams())
    policy = tensor_optix.load(directory)
    observation, _ = env.reset(seed=0)
    batch = np.tile(observation, (BATCH, 1))
    return (
        microseconds(lambda: policy.predict(observation), 10_000),
        microseconds(lambda: policy.predict(observation, deterministic=False), 10_000),
        microseconds(lambda: policy.predict(batch), 1_000),
    )


def run() -> None:
    """Measure and print."""
    print(f"| environment | algorithm | one, us | one, drawn, us | {BATCH} at once, us |")
    print("|---|---|---|---|---|")
    for env_id, algorithm in CASES:
        with tempfile.TemporaryDirectory() as directory:
            times = measure(env_id, algorithm, Path(directory))
        print(f"| {env_id} | {algorithm} | {' | '.join(f'{t:.1f}' for t in times)} |", flush=True)


if __name__ == "__main__":
    run()
