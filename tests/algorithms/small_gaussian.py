"""A small Gaussian PPO agent, a window for it, and environments that it can step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from tensor_optix.algorithms import ppo
from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
from tensor_optix.core.types import EpisodeData, HyperparamSet
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tests.frameworks import load

if TYPE_CHECKING:
    import pytest

    from tests.frameworks import Framework

ACTION_DIM = 2
ROWS = 128


def make_agent(
    seed: int = 0,
    obs_shape: tuple[int, ...] = (4,),
    framework: Framework | None = None,
    actor: Any = None,
    obs_normalizer: Any = None,
    reward_normalizer: Any = None,
    **params: Any,
) -> Any:
    """Make one of `framework`, or of PyTorch."""
    framework = framework or load("torch")
    size = int(np.prod(obs_shape))
    if actor is None:
        actor = framework.perceptron((size, 16, 2 * ACTION_DIM), 2 * seed, obs_shape)
    critic = framework.perceptron((size, 16, 1), 2 * seed + 1, obs_shape)
    agent = framework.GaussianPPO(
        actor,
        critic,
        framework.adam(1e-3, actor, critic),
        ACTION_DIM,
        HyperparamSet(params),
        device="cpu",
        obs_normalizer=obs_normalizer,
        reward_normalizer=reward_normalizer,
    )
    agent.seed(seed)
    return agent


def make_normalizing_agent(seed: int = 0, **options: Any) -> Any:
    return make_agent(
        seed, obs_normalizer=ObsNormalizer((4,)), reward_normalizer=RewardNormalizer(), **options
    )


def make_saturated_actor(
    mean: float, log_std: float, framework: Framework | None = None, size: int = 4
) -> Any:
    """Return an actor whose every mean is about `mean` and whose every log_std is `log_std`."""
    framework = framework or load("torch")
    actor = framework.perceptron((size, 2 * ACTION_DIM))
    matrix, bias = framework.weights(actor)
    matrix *= 0.01
    matrix[:, ACTION_DIM:] = 0.0
    bias[:ACTION_DIM] = mean
    bias[ACTION_DIM:] = log_std
    framework.set_weights(actor, [matrix, bias])
    return actor


def make_episode(
    rows: int = 96, obs_shape: tuple[int, ...] = (4,), dtype: Any = np.float32
) -> EpisodeData:
    rng = np.random.default_rng(3)
    observations = rng.uniform(0, 200, (rows, *obs_shape)).astype(dtype)
    if dtype != np.uint8:
        observations = (observations / 100 - 1).astype(dtype)
    return EpisodeData(
        observations=observations,
        actions=np.tanh(rng.normal(0.0, 1.0, (rows, ACTION_DIM))),
        rewards=rng.standard_normal(rows).astype(np.float32),
        terminated=rng.random(rows) < 0.05,
        truncated=np.zeros(rows, bool),
        infos=[],
        episode_id=0,
        final_obs=observations[0],
    )


class Drift(gymnasium.Env[Any, Any]):
    """Random observations far from unit scale; episodes of 7 steps; the reward is the first component."""

    observation_space = Box(-np.inf, np.inf, (4,), np.float32)
    action_space = Box(np.array([-3, 0], np.float32), np.array([3, 5], np.float32))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self._steps += 1
        return self._observe(), 50.0 * float(action[0]), False, self._steps == 7, {}

    def _observe(self) -> Any:
        return self.np_random.normal(30.0, 5.0, 4).astype(np.float32)


def make_window_pipeline(agent: Any) -> BatchPipeline:
    return BatchPipeline(env=Drift(), agent=agent, window_size=ROWS, seed=1)


def record_log_ratios(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Return a list that fills with the log-ratios of every minibatch that is learned from."""
    seen: list[np.ndarray] = []
    original = ppo.approximate_kl

    def spy(ops: Any, log_ratio: Any) -> Any:
        seen.append(log_ratio.detach().numpy().copy())
        return original(ops, log_ratio)

    monkeypatch.setattr(ppo, "approximate_kl", spy)
    return seen
