"""Whose learning curves are recorded: settings, each with a budget far beyond its best, and how many seeds.

Stopping too soon and stopping too late can both be told from such a curve. The settings are those that
`tensor-optix train` would use; where the name says "tuned", those of the learning table.
"""

from __future__ import annotations

import math
from dataclasses import replace

from benchmarks.learning_cases import CASES, Case, by_default

_MUJOCO = CASES["halfcheetah-ppo"]


def _default(env_id: str, algorithm: str, steps: int) -> Case:
    return by_default(env_id, algorithm, steps, math.nan)


CURVE_CASES = {
    "cartpole-ppo": (_default("CartPole-v1", "ppo", 400_000), 5),
    "cartpole-dqn": (_default("CartPole-v1", "dqn", 200_000), 4),
    "acrobot-ppo": (_default("Acrobot-v1", "ppo", 500_000), 4),
    "mountaincar-ppo": (_default("MountainCar-v0", "ppo", 300_000), 2),
    "lunarlander-ppo": (_default("LunarLander-v3", "ppo", 2_000_000), 6),
    "lunarlander-ppo-tuned": (replace(CASES["lunarlander-ppo"], steps=2_000_000), 4),
    "pendulum-ppo": (_default("Pendulum-v1", "ppo", 1_000_000), 3),
    "pendulum-ppo-tuned": (replace(CASES["pendulum-ppo"], steps=500_000), 4),
    "pendulum-sac": (_default("Pendulum-v1", "sac", 60_000), 3),
    "halfcheetah-ppo-tuned": (replace(_MUJOCO, steps=1_500_000), 3),
    "hopper-ppo-tuned": (replace(_MUJOCO, env_id="Hopper-v5", steps=1_500_000), 1),
}
