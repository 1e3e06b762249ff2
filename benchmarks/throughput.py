"""How many environment steps a second: collecting alone, and whole PPO steps (collect and learn).

    python -m benchmarks.throughput [ENV_ID] [--num-envs 1 8 64] [--windows 5]

Prints a table with the median over the windows, after one that is not counted. 1 environment is
Gymnasium's, through `BatchPipeline`; more are EnvPool's where it has the environment. Quote ratios
of one run only: the machine matters.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

import gymnasium
import torch
from torch import nn

from tensor_optix import BatchPipeline, TorchPPOAgent, VectorBatchPipeline

if TYPE_CHECKING:
    from tensor_optix.pipeline.rollout_pipeline import RolloutPipeline

ROWS = 2048


def make_agent(pipeline: RolloutPipeline) -> TorchPPOAgent:
    """Return PPO at its documented defaults, with two networks of 64-64."""
    (inputs,) = pipeline.env.observation_space.shape
    actions = int(pipeline.env.action_space.n)

    def network(outputs: int) -> nn.Module:
        hidden = nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        return hidden.append(nn.Linear(64, outputs))

    actor, critic = network(actions), network(1)
    adam = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=3e-4)
    return TorchPPOAgent(actor, critic, adam, device="cpu")


def measure(env_id: str, num_envs: int, windows: int) -> tuple[str, float, float]:
    """Return the backend, collected steps per second, and steps per second of collect and learn."""
    if num_envs == 1:
        pipeline: RolloutPipeline = BatchPipeline(env=gymnasium.make(env_id), window_size=ROWS)
    else:
        pipeline = VectorBatchPipeline(
            env_id=env_id, num_envs=num_envs, window_size=max(ROWS // num_envs, 32)
        )
    agent = make_agent(pipeline)
    pipeline.set_agent(agent)
    source = pipeline.episodes()
    collecting, whole = [], []
    for _ in range(windows + 1):
        begun = time.perf_counter()
        episode = next(source)
        collected = time.perf_counter()
        agent.learn(episode)
        collecting.append(episode.num_steps / (collected - begun))
        whole.append(episode.num_steps / (time.perf_counter() - begun))
    backend = pipeline.env.name
    pipeline.teardown()
    return backend, statistics.median(collecting[1:]), statistics.median(whole[1:])


def run() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("env_id", nargs="?", default="CartPole-v1")
    parser.add_argument("--num-envs", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--windows", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{arguments.env_id}, PPO of two 64-64 networks, 10 epochs, minibatches of 64\n")
    print("| environments | backend | collect, steps/s | collect and learn, steps/s |")
    print("|---|---|---|---|")
    for num_envs in arguments.num_envs:
        backend, collect, whole = measure(arguments.env_id, num_envs, arguments.windows)
        print(f"| {num_envs} | {backend} | {collect:,.0f} | {whole:,.0f} |", flush=True)


if __name__ == "__main__":
    run()
