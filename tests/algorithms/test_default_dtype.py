"""A process whose default dtype is float64: networks that are made there compute in it, and learn."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tensor_optix import HyperparamSet, VectorBatchPipeline, make_agent

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL = {"learning_starts": 64, "batch_size": 16, "updates_per_step": 0.1}


@contextmanager
def doubles_by_default(framework: str) -> Iterator[None]:
    module = pytest.importorskip(framework)
    if framework == "torch":
        before = module.get_default_dtype()
        module.set_default_dtype(module.float64)
    else:
        import keras

        before = keras.backend.floatx()
        keras.backend.set_floatx("float64")
    try:
        yield
    finally:
        if framework == "torch":
            module.set_default_dtype(before)
        else:
            keras.backend.set_floatx(before)


@pytest.mark.parametrize("framework", ["torch", "tensorflow"], indirect=True)
@pytest.mark.parametrize(
    ("algorithm", "env_id"),
    [
        ("ppo", "CartPole-v1"),
        ("ppo", "Pendulum-v1"),
        ("dqn", "CartPole-v1"),
        ("sac", "Pendulum-v1"),
        ("td3", "Pendulum-v1"),
    ],
)
def test_agents_learn_where_floats_are_doubles(algorithm, env_id, framework):
    with doubles_by_default(framework.name):
        params = HyperparamSet({} if algorithm == "ppo" else SMALL)
        agent = make_agent(env_id, algorithm, framework.name, hyperparams=params, hidden_sizes=(8,))
        pipeline = VectorBatchPipeline(env_id=env_id, num_envs=2, window_size=64, backend="sync")
        pipeline.set_agent(agent)
        pipeline.setup()
        window = next(pipeline.episodes())
        diagnostics = agent.learn(window)
        pipeline.teardown()
    assert diagnostics["n_updates"] > 0
    assert agent.has_finite_weights()
    assert np.isfinite(agent.act_greedy(np.asarray(window.observations[:4]))).all()
