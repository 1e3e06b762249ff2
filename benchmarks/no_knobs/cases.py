"""What is trained without an option, and against what: rl-zoo3's settings, Stable-Baselines3's defaults.

Facts of the settings: rl-baselines3-zoo, hyperparams/{ppo,sac,dqn}.yml. Where a budget there is above what
two processors can make with five seeds it is lower here, and the same for everybody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """An environment, a budget, and how rl-zoo3 trains in it."""

    env_id: str
    steps: int
    """Of the environment, for each contender."""
    algorithm: str
    """Of Stable-Baselines3, for its tuned settings and its defaults alike."""
    tuned: dict[str, Any] = field(default_factory=dict)
    """Arguments of the algorithm; none where rl-zoo3 has none. "lin_X" falls from X to 0."""
    num_envs: int = 1
    normalizes: bool = False
    """Whether observations and rewards are normalized."""


MUJOCO = {"learning_starts": 10_000}
_CASES = [
    Case(
        "CartPole-v1",
        100_000,
        "PPO",
        {
            "n_steps": 32,
            "batch_size": 256,
            "gae_lambda": 0.8,
            "gamma": 0.98,
            "n_epochs": 20,
            "ent_coef": 0.0,
            "learning_rate": "lin_0.001",
            "clip_range": "lin_0.2",
        },
        num_envs=8,
    ),
    Case("Pendulum-v1", 20_000, "SAC", {"learning_rate": 1e-3}),
    Case(
        "MountainCarContinuous-v0",
        50_000,
        "SAC",
        {
            "learning_rate": 3e-4,
            "buffer_size": 50_000,
            "batch_size": 512,
            "ent_coef": 0.1,
            "train_freq": 32,
            "gradient_steps": 32,
            "gamma": 0.9999,
            "tau": 0.01,
            "learning_starts": 0,
            "use_sde": True,
            "policy_kwargs": {"log_std_init": -3.67, "net_arch": [64, 64]},
        },
    ),
    Case(
        "MountainCar-v0",
        120_000,
        "DQN",
        {
            "learning_rate": 4e-3,
            "batch_size": 128,
            "buffer_size": 10_000,
            "learning_starts": 1000,
            "gamma": 0.98,
            "target_update_interval": 600,
            "train_freq": 16,
            "gradient_steps": 8,
            "exploration_fraction": 0.2,
            "exploration_final_eps": 0.07,
            "policy_kwargs": {"net_arch": [256, 256]},
        },
    ),
    Case(
        "Acrobot-v1",
        100_000,
        "DQN",
        {
            "learning_rate": 6.3e-4,
            "batch_size": 128,
            "buffer_size": 50_000,
            "learning_starts": 0,
            "gamma": 0.99,
            "target_update_interval": 250,
            "train_freq": 4,
            "gradient_steps": -1,
            "exploration_fraction": 0.12,
            "exploration_final_eps": 0.1,
            "policy_kwargs": {"net_arch": [256, 256]},
        },
    ),
    Case("FrozenLake8x8-v1", 200_000, "PPO"),
    Case("Taxi-v4", 300_000, "PPO"),
    Case(
        "InvertedPendulum-v5",
        100_000,
        "PPO",
        {
            "n_steps": 32,
            "batch_size": 64,
            "gamma": 0.999,
            "learning_rate": 0.000222425,
            "ent_coef": 1.37976e-07,
            "clip_range": 0.4,
            "n_epochs": 5,
            "gae_lambda": 0.9,
            "max_grad_norm": 0.3,
            "vf_coef": 0.19816,
        },
        normalizes=True,
    ),
    Case(
        "Reacher-v5",
        200_000,
        "PPO",
        {
            "n_steps": 512,
            "batch_size": 32,
            "gamma": 0.9,
            "learning_rate": 0.000104019,
            "ent_coef": 7.52585e-08,
            "clip_range": 0.3,
            "n_epochs": 5,
            "gae_lambda": 1.0,
            "max_grad_norm": 0.9,
            "vf_coef": 0.950368,
        },
        normalizes=True,
    ),
    Case(
        "LunarLander-v3",
        1_000_000,
        "PPO",
        {
            "n_steps": 1024,
            "batch_size": 64,
            "gae_lambda": 0.98,
            "gamma": 0.999,
            "n_epochs": 4,
            "ent_coef": 0.01,
        },
        num_envs=16,
    ),
    Case(
        "LunarLanderContinuous-v3",
        100_000,
        "SAC",
        {
            "batch_size": 256,
            "learning_rate": "lin_7.3e-4",
            "buffer_size": 1_000_000,
            "ent_coef": "auto",
            "gamma": 0.99,
            "tau": 0.01,
            "train_freq": 1,
            "gradient_steps": 1,
            "learning_starts": 10_000,
            "policy_kwargs": {"net_arch": [400, 300]},
        },
    ),
    Case(
        "BipedalWalker-v3",
        100_000,
        "SAC",
        {
            "learning_rate": 7.3e-4,
            "buffer_size": 300_000,
            "batch_size": 256,
            "ent_coef": "auto",
            "gamma": 0.98,
            "tau": 0.02,
            "train_freq": 64,
            "gradient_steps": 64,
            "learning_starts": 10_000,
            "use_sde": True,
            "policy_kwargs": {"log_std_init": -3, "net_arch": [400, 300]},
        },
    ),
    Case("Swimmer-v5", 100_000, "SAC", {**MUJOCO, "gamma": 0.9999}),
    Case("Hopper-v5", 100_000, "SAC", MUJOCO),
    Case("Walker2d-v5", 100_000, "SAC", MUJOCO),
    Case("HalfCheetah-v5", 100_000, "SAC", MUJOCO),
]
CASES = {case.env_id: case for case in _CASES}
CONTENDERS = ("ours", "tuned", "default", "random")
"""`tensor-optix train ENV` alone; rl-zoo3's settings; Stable-Baselines3's own; random actions."""
EPISODES = 100
"""Fresh ones, played greedily, that a run is judged by."""
