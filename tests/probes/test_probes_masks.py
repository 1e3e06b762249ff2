"""Agents where nothing but masks tells what is allowed: they learn, and never take what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.core.normalizers import ObsNormalizer
from tensor_optix.core.types import HyperparamSet
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import from_env_fns
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.pipeline.masked_envs import LENGTH, NUM_ACTIONS, OnlyItsMethodTells, OnlyMasksTell

if TYPE_CHECKING:
    from tests.frameworks import Framework

ENVS = 4
WAYS = [
    *((name, way) for name in ("torch", "native") for way in ("info", "observation", "method")),
    ("tensorflow", "info"),
]
"""Which way masks come is the pipeline's affair: one is enough with TensorFlow."""


def fresh(way: str) -> Any:
    """Return a class of environments with counters of its own, to be made without arguments."""
    base = OnlyItsMethodTells if way == "method" else OnlyMasksTell

    class Counted(base):  # type: ignore[misc, valid-type]
        forbidden = steps = 0

        def __init__(self) -> None:
            super().__init__(*([] if way == "method" else [way]))

    return Counted


def make_ppo(framework: Framework, **parts: Any) -> Any:
    actor, critic = framework.perceptron((2, NUM_ACTIONS), 0), framework.perceptron((2, 1), 1)
    params = HyperparamSet({"learning_rate": 0.03, "n_epochs": 4, "entropy_coef": 0.0})
    optimizer = framework.adam(0.03, actor, critic)
    return framework.PPO(actor, critic, optimizer, params, device="cpu", **parts)


def make_dqn(framework: Framework, **parts: Any) -> Any:
    network = framework.perceptron((2, NUM_ACTIONS), 0)
    params = {"learning_rate": 0.03, "gamma": 0.5, "batch_size": 32, "target_update_freq": 10}
    optimizer = framework.adam(0.03, network)
    hyperparams = HyperparamSet(params | {"epsilon_decay": 0.9, "updates_per_step": 0.5})
    return framework.DQN(network, NUM_ACTIONS, optimizer, hyperparams, device="cpu", **parts)


AGENTS = {"ppo": make_ppo, "dqn": make_dqn}


@pytest.mark.parametrize(("framework", "way"), WAYS, indirect=["framework"])
@pytest.mark.parametrize("algorithm", AGENTS)
def test_what_only_masks_tell_is_learned_and_nothing_else_is_ever_done(framework, algorithm, way):
    kind = fresh(way)
    agent = AGENTS[algorithm](framework)
    agent.seed(0)
    pipeline = VectorBatchPipeline([kind] * ENVS, agent, window_size=64, seed=0)
    for _, window in zip(range(15), pipeline.episodes(), strict=False):
        agent.learn(window)
    returns, lengths = play_episodes(agent, from_env_fns([kind] * ENVS), 40, seed=1)
    pipeline.teardown()
    assert kind.steps > 3000
    assert kind.forbidden == 0
    assert lengths.tolist() == [LENGTH] * 40
    assert returns.tolist() == [LENGTH] * 40


@pytest.mark.parametrize("algorithm", AGENTS)
def test_without_masks_it_cannot_be_learned(torch_framework, algorithm):
    """The counter counts: an agent that sees no masks loses."""
    kind = fresh("nothing")
    agent = AGENTS[algorithm](torch_framework)
    agent.seed(0)
    returns, _ = play_episodes(agent, from_env_fns([kind] * ENVS), 40, seed=1)
    assert kind.forbidden > 0
    assert returns.min() < 0


@pytest.mark.parametrize("framework", ["torch", "native"], indirect=True)
@pytest.mark.parametrize("algorithm", AGENTS)
def test_normalizers_see_the_observations_alone(framework, algorithm):
    kind = fresh("info")
    normalizer = ObsNormalizer((2,))
    agent = AGENTS[algorithm](framework, obs_normalizer=normalizer)
    pipeline = VectorBatchPipeline([kind] * ENVS, agent, window_size=32, seed=0)
    window = next(pipeline.episodes())
    agent.learn(window)
    shown = window.observations[window.valid, :2]
    np.testing.assert_allclose(normalizer.mean, shown.mean(axis=0), atol=1e-6)
    agent.learn(next(pipeline.episodes()))
    pipeline.teardown()
    assert kind.forbidden == 0
