"""Whose learning curves are recorded: environments, algorithms, settings and budgets.

A budget is several times what a run needs to come near its best, so that stopping too soon and stopping too
late can both be told from the curve. The settings are those of `make_agent` (what `tensor-optix train` uses),
where the name does not say "tuned".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CurveCase:
    """One algorithm on one environment, trained far beyond its best."""

    env_id: str
    algorithm: str
    steps: int
    """Environment steps of the whole budget."""
    seeds: int
    num_envs: int = 8
    window_size: int = 256
    hidden_sizes: tuple[int, ...] | None = None
    hyperparams: dict[str, Any] = field(default_factory=dict)
    normalize_observations: bool = False
    normalize_rewards: bool = False

    @property
    def windows(self) -> int:
        """How many windows the budget has."""
        return self.steps // (self.num_envs * self.window_size)


CURVE_CASES = {
    "lunarlander-ppo": CurveCase("LunarLander-v3", "ppo", 2_000_000, 6),
    "cartpole-ppo": CurveCase("CartPole-v1", "ppo", 400_000, 5),
    "acrobot-ppo": CurveCase("Acrobot-v1", "ppo", 500_000, 4),
    "pendulum-sac": CurveCase("Pendulum-v1", "sac", 60_000, 3, num_envs=4),
    "lunarlander-ppo-tuned": CurveCase(
        "LunarLander-v3",
        "ppo",
        2_000_000,
        4,
        num_envs=16,
        hyperparams={
            "gamma": 0.999,
            "gae_lambda": 0.98,
            "n_epochs": 4,
            "minibatch_size": 128,
            "learning_rate": 1e-3,
        },
    ),
    "pendulum-ppo-tuned": CurveCase(
        "Pendulum-v1",
        "ppo",
        500_000,
        4,
        hyperparams={"learning_rate": 1e-3, "gamma": 0.9, "entropy_coef": 0.0},
        normalize_rewards=True,
    ),
    "pendulum-ppo": CurveCase("Pendulum-v1", "ppo", 1_000_000, 3),
    "cartpole-dqn": CurveCase("CartPole-v1", "dqn", 200_000, 4, num_envs=4),
    "acrobot-dqn": CurveCase("Acrobot-v1", "dqn", 200_000, 2, num_envs=4),
    "lunarlander-dqn": CurveCase("LunarLander-v3", "dqn", 500_000, 2, num_envs=4),
    "mountaincar-ppo": CurveCase("MountainCar-v0", "ppo", 300_000, 2),
    "halfcheetah-ppo-tuned": CurveCase(
        "HalfCheetah-v5",
        "ppo",
        1_500_000,
        3,
        hyperparams={"entropy_coef": 0.0, "minibatch_size": 256},
        normalize_observations=True,
        normalize_rewards=True,
    ),
    "hopper-ppo-tuned": CurveCase(
        "Hopper-v5",
        "ppo",
        1_500_000,
        2,
        hyperparams={"entropy_coef": 0.0, "minibatch_size": 256},
        normalize_observations=True,
        normalize_rewards=True,
    ),
}
