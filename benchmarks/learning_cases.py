"""What each algorithm is expected to learn, in how many environment steps, and with which settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tensor_optix import VectorBatchPipeline
from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.algorithms.catalogue import find_algorithm
from tensor_optix.core.types import HyperparamSet

if TYPE_CHECKING:
    from tensor_optix.core.base_agent import BaseAgent


@dataclass(frozen=True)
class Case:
    """One algorithm on one environment."""

    env_id: str
    algorithm: str
    steps: int
    """The most environment steps."""
    goal: float
    """The greedy score that the median of the seeds must reach."""
    num_envs: int = 8
    window_size: int = 256
    """Steps of each environment between two evaluations."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    hyperparams: dict[str, Any] = field(default_factory=dict)
    normalize_observations: bool = False
    normalize_rewards: bool = False
    validation_envs: int = 0
    """Environments that greedy episodes are played in at each evaluation, to choose the best policy by.
    0: by the training episodes. Their steps are not counted: nothing is learned from them."""

    enough: float | None = None
    """A run is ended by the first evaluation whose score reaches this."""
    stops_by_itself: bool = True
    """Whether the loop may end the run before; False: what counts is where the last step leads."""

    @property
    def windows(self) -> int:
        """How many windows fit."""
        return self.steps // (self.num_envs * self.window_size)

    def build(self, seed: int, framework: str) -> tuple[BaseAgent, VectorBatchPipeline]:
        """Return an agent of these settings, and what it trains on."""
        pipeline = VectorBatchPipeline(
            env_id=self.env_id, num_envs=self.num_envs, window_size=self.window_size
        )
        agent = make_agent(
            pipeline.env,
            self.algorithm,
            framework,
            hyperparams=HyperparamSet(dict(self.hyperparams)),
            hidden_sizes=self.hidden_sizes,
            seed=seed,
            normalize_observations=self.normalize_observations,
            normalize_rewards=self.normalize_rewards,
        )
        return agent, pipeline


def by_default(env_id: str, algorithm: str, steps: int, goal: float) -> Case:
    """Return the settings that `tensor-optix train` would use."""
    known = find_algorithm(algorithm)
    return Case(
        env_id,
        algorithm,
        steps,
        goal,
        num_envs=known.num_envs,
        window_size=known.window_size,
        hidden_sizes=known.hidden_sizes,
    )


CASES = {
    "cartpole-ppo": Case("CartPole-v1", "ppo", 150_000, 475),
    "cartpole-dqn": Case(
        "CartPole-v1",
        "dqn",
        100_000,
        475,
        window_size=128,
        hyperparams={
            "learning_rate": 1e-3,
            "updates_per_step": 0.5,
            "epsilon_decay_steps": 8_000,
            "learning_starts": 500,
        },
        validation_envs=10,
    ),
    "cartpole-dqn-documented": Case(
        "CartPole-v1",
        "dqn",
        100_000,
        475,
        num_envs=1,
        window_size=200,
        hyperparams={"learning_starts": 0, "epsilon_decay_steps": 0},
        validation_envs=10,
    ),
    "acrobot-dqn": Case(
        "Acrobot-v1",
        "dqn",
        100_000,
        -100,
        window_size=128,
        hidden_sizes=(128, 128),
        hyperparams={
            "learning_rate": 6.3e-4,
            "batch_size": 128,
            "updates_per_step": 0.5,
            "epsilon_decay_steps": 10_000,
            "learning_starts": 500,
            "target_update_freq": 250,
        },
        validation_envs=10,
    ),
    # Which actions move is told by masks, as Gymnasium's Taxi does; EnvPool's tells none.
    "taxi-ppo": Case(
        "Taxi-v4",
        "ppo",
        300_000,
        7,
        hyperparams={"learning_rate": 2e-3, "minibatch_size": 256, "n_epochs": 4},
        validation_envs=10,
        stops_by_itself=False,
    ),
    # Not among what `make .venv/installed` brings: benchmarks/environments/requirements.txt does.
    "minigrid-empty-ppo": by_default("minigrid:MiniGrid-Empty-5x5-v0", "ppo", 60_000, 0.9),
    "minigrid-doorkey-ppo": by_default("minigrid:MiniGrid-DoorKey-5x5-v0", "ppo", 400_000, 0.8),
    "fetchreach-sac": by_default("gymnasium_robotics:FetchReachDense-v4", "sac", 30_000, -1.5),
    "parking-sac": by_default("highway_env:parking-v0", "sac", 20_000, -26),
    "pendulum-sac": Case(
        "Pendulum-v1",
        "sac",
        20_000,
        -200,
        num_envs=4,
        window_size=200,
        hyperparams={"learning_rate": 1e-3, "batch_size": 128, "learning_starts": 500},
        validation_envs=10,
    ),
    "pendulum-td3": Case(
        "Pendulum-v1",
        "td3",
        20_000,
        -200,
        num_envs=4,
        window_size=200,
        hyperparams={"batch_size": 128, "learning_starts": 500},
        validation_envs=10,
    ),
    "pendulum-ppo": Case(
        "Pendulum-v1",
        "ppo",
        200_000,
        -250,
        hyperparams={"learning_rate": 1e-3, "gamma": 0.9, "entropy_coef": 0.0},
        normalize_rewards=True,
        validation_envs=10,
    ),
    "lunarlander-ppo": Case(
        "LunarLander-v3",
        "ppo",
        1_000_000,
        200,
        num_envs=16,
        hyperparams={
            "gamma": 0.999,
            "gae_lambda": 0.98,
            "n_epochs": 4,
            "minibatch_size": 128,
            "learning_rate": 1e-3,
        },
        stops_by_itself=False,
    ),
    "lunarlander-sac": Case(
        "LunarLanderContinuous-v3",
        "sac",
        500_000,
        200,
        num_envs=8,
        window_size=256,
        hidden_sizes=(128, 128),
        hyperparams={
            "learning_rate": 7e-4,
            "batch_size": 128,
            "updates_per_step": 0.5,
            "learning_starts": 10_000,
            "tau": 0.01,
        },
        validation_envs=10,
        enough=240,
        stops_by_itself=False,
    ),
    "halfcheetah-ppo": Case(
        "HalfCheetah-v5",
        "ppo",
        1_000_000,
        1500,
        hyperparams={"entropy_coef": 0.0, "minibatch_size": 256},
        normalize_observations=True,
        normalize_rewards=True,
        stops_by_itself=False,
    ),
}
