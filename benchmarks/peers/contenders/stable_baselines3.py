"""Stable-Baselines3: settings in, a learner out. `sbx` has the same classes and is made here too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import stable_baselines3
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

if TYPE_CHECKING:
    from benchmarks.peers.settings import DQN, PPO, SAC, Settings

EVALUATION_ENVS = 10
EVALUATION_SEED = 987_654


class Model:
    """A model of the library, trained piece by piece.

    Args:
        settings: What it was made for.
        model: Is trained.
    """

    def __init__(self, settings: Settings, model: Any) -> None:
        self._model = model
        self._envs = make_envs(settings, EVALUATION_ENVS, EVALUATION_SEED)
        self._normalizer = model.get_vec_normalize_env()
        if self._normalizer is not None:
            self._envs.training = self._envs.norm_reward = False

    def train(self, steps: int) -> int:
        before = self._model.num_timesteps
        self._model.learn(steps, reset_num_timesteps=False)
        return int(self._model.num_timesteps - before)

    def play(self, episodes: int) -> float:
        if self._normalizer is not None:
            self._envs.obs_rms = self._normalizer.obs_rms
        mean, _ = evaluate_policy(self._model, self._envs, episodes, deterministic=True)
        return float(mean)


def make_envs(settings: Settings, count: int, seed: int) -> Any:
    """Return environments as the library's own functions make them, all in this process."""
    if getattr(settings, "is_atari", False):
        import ale_py

        gymnasium.register_envs(ale_py)
        return VecFrameStack(make_atari_env(settings.env_id, count, seed), 4)
    envs = make_vec_env(settings.env_id, count, seed)
    if getattr(settings, "normalizes", False):
        return VecNormalize(envs, gamma=settings.gamma)
    return envs


def ppo(settings: PPO, seed: int, library: Any = stable_baselines3) -> Model:
    progress = Progress(settings.anneal_steps)
    model = library.PPO(
        "CnnPolicy" if settings.is_atari else "MlpPolicy",
        make_envs(settings, settings.num_envs, seed),
        learning_rate=progress.schedule(settings.learning_rate),
        n_steps=settings.rows // settings.num_envs,
        batch_size=settings.minibatch,
        n_epochs=settings.epochs,
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        clip_range=progress.schedule(settings.clip) if settings.anneals_clip else settings.clip,
        normalize_advantage=settings.normalizes_advantages,
        ent_coef=settings.entropy_coef,
        vf_coef=settings.vf_coef,
        max_grad_norm=settings.max_grad_norm,
        seed=seed,
        device="cpu",
        **_network_and_noise(settings),
    )
    progress.model = model
    return Model(settings, model)


class Progress:
    """How far a model is, whose own progress would begin anew with every piece of training.

    Args:
        budget: Steps in which a number falls to 0. None: it stays.
    """

    def __init__(self, budget: int | None) -> None:
        self._budget = budget
        self.model: Any = None

    def schedule(self, value: float) -> Any:
        """Return the number as it is, or the function by which it falls."""
        budget = self._budget
        if budget is None:
            return value
        # The library asks once before there is a model.
        return lambda _: (
            value * max(0.0, 1.0 - (0 if self.model is None else self.model.num_timesteps) / budget)
        )


def _network_and_noise(settings: PPO) -> dict[str, Any]:
    sizes = list(settings.hidden_sizes)
    network = {"policy_kwargs": {"net_arch": {"pi": sizes, "vf": sizes}}}
    noise = {"use_sde": True, "sde_sample_freq": settings.sde_freq}
    return {
        **({} if settings.is_atari else network),
        **({} if settings.sde_freq is None else noise),
    }


def dqn(settings: DQN, seed: int, library: Any = stable_baselines3) -> Model:
    model = library.DQN(
        "MlpPolicy",
        make_envs(settings, settings.num_envs, seed),
        learning_rate=settings.learning_rate,
        buffer_size=settings.capacity,
        learning_starts=settings.learning_starts,
        batch_size=settings.batch,
        gamma=settings.gamma,
        target_update_interval=settings.target_every,
        train_freq=settings.train_every // settings.num_envs,
        gradient_steps=settings.updates,
        policy_kwargs={"net_arch": list(settings.hidden_sizes)},
        seed=seed,
        device="cpu",
    )
    first, last, steps = settings.epsilon, settings.epsilon_min, settings.epsilon_steps
    # The library's own progress would begin anew with every piece.
    model.exploration_schedule = lambda _: max(
        last, first - (first - last) * model.num_timesteps / steps
    )
    return Model(settings, model)


def sac(settings: SAC, seed: int, library: Any = stable_baselines3) -> Model:
    model = library.SAC(
        "MlpPolicy",
        make_envs(settings, settings.num_envs, seed),
        learning_rate=settings.learning_rate,
        buffer_size=settings.capacity,
        learning_starts=settings.learning_starts,
        batch_size=settings.batch,
        tau=settings.tau,
        gamma=settings.gamma,
        train_freq=settings.train_every // settings.num_envs,
        gradient_steps=settings.updates,
        policy_kwargs={"net_arch": list(settings.hidden_sizes)},
        seed=seed,
        device="cpu",
    )
    return Model(settings, model)
