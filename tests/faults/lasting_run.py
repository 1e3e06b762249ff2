"""A run that goes on however often it is killed.

python -m tests.faults.lasting_run DIRECTORY ALGORITHM FRAMEWORK
"""

from __future__ import annotations

import sys
from typing import Any

from tensor_optix import (
    CheckpointRegistry,
    EnsembleAgent,
    PolicyManager,
    RLOptimizer,
    VectorBatchPipeline,
    make_agent,
)
from tensor_optix.core.types import HyperparamSet

CHECKPOINT_SECONDS = 0.5
ENVIRONMENTS = {"sac": "Pendulum-v1", "td3": "Pendulum-v1"}
OFF_POLICY = {"learning_starts": 100, "batch_size": 32, "replay_capacity": 5000}


def make_pipeline(algorithm: str) -> VectorBatchPipeline:
    env_id = ENVIRONMENTS.get(algorithm, "CartPole-v1")
    return VectorBatchPipeline(env_id=env_id, num_envs=2, window_size=32, backend="sync")


def new_agent(algorithm: str, framework: str, params: dict[str, Any]) -> Any:
    chosen = (OFF_POLICY if algorithm in ("dqn", "sac", "td3") else {}) | params
    env_id = ENVIRONMENTS.get(algorithm, "CartPole-v1")
    return make_agent(
        env_id, algorithm, framework, hidden_sizes=(16,), hyperparams=HyperparamSet(chosen), seed=0
    )


def make_run(directory: str, algorithm: str, framework: str, **settings: Any) -> RLOptimizer:
    common: dict[str, Any] = {
        "seed": 0,
        "run_dir": directory,
        "resume": True,
        "checkpoint_seconds": CHECKPOINT_SECONDS,
        "dormant_threshold": 10**9,
    }
    if algorithm == "trials":
        return RLOptimizer(
            agent_factory=lambda params: new_agent("ppo", framework, params),
            pipeline_factory=lambda: make_pipeline("ppo"),
            param_space={"learning_rate": ("log_float", 1e-4, 1e-2)},
            n_trials=3,
            trial_steps_fraction=0.1,
            **common | {"max_episodes": 1000} | settings,
        )
    if algorithm == "ensemble":
        manager = PolicyManager(CheckpointRegistry(directory + "/members"))
        members = [new_agent("dqn", framework, {}) for _ in range(2)]
        for member in members:
            manager.add_agent(member)
        agent: Any = EnsembleAgent(manager, members[0])
    else:
        agent = new_agent(algorithm, framework, {})
    return RLOptimizer(agent, make_pipeline(algorithm), **common | settings)


if __name__ == "__main__":
    make_run(*sys.argv[1:4]).run()
