"""Stable-Baselines3: settings in, a learner out. `sbx` has the same classes and is made here too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
        return VecFrameStack(make_atari_env(settings.env_id, count, seed), 4)
    envs = make_vec_env(settings.env_id, count, seed)
    if getattr(settings, "normalizes", False):
        return VecNormalize(envs, gamma=settings.gamma)
    return envs


def ppo(settings: PPO, seed: int, library: Any = stable_baselines3) -> Model:
    model: Any = None

    def annealed(value: float) -> Any:
        budget = settings.anneal_steps
        # The library's own progress would begin anew with every piece.
        return lambda _: value * max(0.0, 1.0 - (model.num_timesteps if model else 0) / budget)

    anneals = settings.anneal_steps is not None
    noise = (
        {} if settings.sde_freq is None else {"use_sde": True, "sde_sample_freq": settings.sde_freq}
    )
    sizes = list(settings.hidden_sizes)
    network = (
        {} if settings.is_atari else {"policy_kwargs": {"net_arch": {"pi": sizes, "vf": sizes}}}
    )
    model = library.PPO(
        "CnnPolicy" if settings.is_atari else "MlpPolicy",
        make_envs(settings, settings.num_envs, seed),
        learning_rate=annealed(settings.learning_rate) if anneals else settings.learning_rate,
        n_steps=settings.rows // settings.num_envs,
        batch_size=settings.minibatch,
        n_epochs=settings.epochs,
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        clip_range=annealed(settings.clip) if settings.anneals_clip else settings.clip,
        normalize_advantage=settings.normalizes_advantages,
        ent_coef=settings.entropy_coef,
        vf_coef=settings.vf_coef,
        max_grad_norm=settings.max_grad_norm,
        seed=seed,
        device="cpu",
        **network,
        **noise,
    )
    return Model(settings, model)


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
