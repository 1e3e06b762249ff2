"""tensor-optix: settings in, a learner out; and `tensor-optix train` as it stands, up to a score."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensor_optix import HyperparamSet, RLOptimizer, VectorBatchPipeline, make_agent
from tensor_optix.core.callbacks import LoopCallback
from tensor_optix.kernels.engine import has_engine
from tensor_optix.pipeline.atari import atari
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import make_vector_env

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.peers.cases import Contender
    from benchmarks.peers.settings import DQN, PPO, SAC, Settings
    from tensor_optix.core.callbacks import LoopControl, WindowReport

ROWS = 256
"""Of a window of an algorithm with a replay, which learns all along it."""
EVALUATION_SEED = 987_654

if not has_engine:
    raise ImportError(
        "the native engine is missing, and figures without it would not be ours: "
        "look what `pip install --verbose --editable` says of the C++ compiler"
    )


class Learner:
    """An agent and the pipeline that it learns from, window by window.

    Args:
        contender: Says which framework and engine.
        settings: Say which environments.
        algorithm: Names the agent.
        window: Rows of a window, of all environments together.
        hyperparams: Of the agent.
        seed: Of both.
    """

    def __init__(
        self,
        contender: Contender,
        settings: Settings,
        algorithm: str,
        window: int,
        hyperparams: dict[str, Any],
        seed: int,
    ) -> None:
        is_atari = getattr(settings, "is_atari", False)
        # With a single environment EnvPool's threads have nothing to share.
        backend = "sync" if settings.num_envs == 1 else "auto"
        plain = {"env_id": settings.env_id, "backend": backend}
        recipe: Any = atari(settings.env_id) if is_atari else plain
        pipeline = VectorBatchPipeline(
            **recipe, num_envs=settings.num_envs, window_size=window // settings.num_envs, seed=seed
        )
        self._agent = make_agent(
            pipeline.env,
            algorithm,
            contender.framework,
            hyperparams=HyperparamSet(hyperparams),
            hidden_sizes=None if is_atari else settings.hidden_sizes,
            seed=seed,
            device="cpu",
            engine=contender.engine,  # type: ignore[arg-type]
        )
        pipeline.set_agent(self._agent)
        self._windows = pipeline.episodes()

    def train(self, steps: int) -> int:
        taken = 0
        while taken < steps:
            window = next(self._windows)
            self._agent.learn(window)
            taken += window.num_steps
        return taken


def ppo_hyperparams(settings: PPO) -> dict[str, Any]:
    return {
        "learning_rate": settings.learning_rate,
        "gamma": settings.gamma,
        "gae_lambda": settings.gae_lambda,
        "clip_ratio": settings.clip,
        "entropy_coef": settings.entropy_coef,
        "vf_coef": settings.vf_coef,
        "max_grad_norm": settings.max_grad_norm,
        "n_epochs": settings.epochs,
        "minibatch_size": settings.minibatch,
    }


def ppo(settings: PPO, seed: int, contender: Contender) -> Learner:
    return Learner(contender, settings, "ppo", settings.rows, ppo_hyperparams(settings), seed)


def dqn_hyperparams(settings: DQN) -> dict[str, Any]:
    return {
        "learning_rate": settings.learning_rate,
        "batch_size": settings.batch,
        "replay_capacity": settings.capacity,
        "learning_starts": settings.learning_starts,
        "gamma": settings.gamma,
        "target_update_freq": settings.target_every,
        "updates_per_step": settings.updates / settings.train_every,
        "train_freq": settings.train_every,
        "epsilon_decay_steps": settings.epsilon_steps,
        "epsilon_min": settings.epsilon_min,
    }


def dqn(settings: DQN, seed: int, contender: Contender) -> Learner:
    return Learner(contender, settings, "dqn", ROWS, dqn_hyperparams(settings), seed)


def sac_hyperparams(settings: SAC) -> dict[str, Any]:
    return {
        "learning_rate": settings.learning_rate,
        "batch_size": settings.batch,
        "replay_capacity": settings.capacity,
        "learning_starts": settings.learning_starts,
        "gamma": settings.gamma,
        "tau": settings.tau,
        "updates_per_step": settings.updates / settings.train_every,
        "train_freq": settings.train_every,
    }


def sac(settings: SAC, seed: int, contender: Contender) -> Learner:
    return Learner(contender, settings, "sac", ROWS, sac_hyperparams(settings), seed)


class Goal(LoopCallback):
    """Plays greedy episodes after every window, and ends the run once a score is reached.

    Args:
        env_id: Where they are played.
        is_reached: Takes the steps so far and a function that plays so many episodes; says whether to stop.
    """

    def __init__(
        self, env_id: str, is_reached: Callable[[int, Callable[[int], float]], bool]
    ) -> None:
        self._env_id = env_id
        self._is_reached = is_reached
        self._env: Any = None

    def on_attach(self, control: LoopControl) -> None:
        self._control = control

    def watch(self, agent: Any) -> None:
        """Play with this agent."""
        self._agent = agent

    def on_window(self, report: WindowReport) -> None:
        if self._is_reached(report.total_steps, self._play):
            self._control.stop("the score was reached")

    def _play(self, episodes: int) -> float:
        if self._env is None:
            self._env = make_vector_env(self._env_id, episodes, seed=EVALUATION_SEED)
        returns, _ = play_episodes(self._agent, self._env, episodes)
        return float(returns.mean())


def train_by_default(
    env_id: str,
    seed: int,
    contender: Contender,
    is_reached: Callable[[int, Callable[[int], float]], bool],
) -> None:
    """Run `tensor-optix train ENV_ID`, nothing but seed, framework and engine given, until it is reached."""
    from tensor_optix.cli import training
    from tensor_optix.cli.main import main

    goal = Goal(env_id, is_reached)

    class Watched(RLOptimizer):
        """The command's own, with one callback more."""

        def __init__(self, agent: Any, *pipeline: Any, callbacks: Any, **settings: Any) -> None:
            goal.watch(agent)
            super().__init__(agent, *pipeline, callbacks=[*callbacks, goal], **settings)

    training.RLOptimizer = Watched  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as place:
        words = ["--framework", contender.framework, "--engine", contender.engine]
        words += ["--seed", str(seed), "--plain", "--run-dir", str(Path(place) / "run")]
        main(["train", env_id, *words])
