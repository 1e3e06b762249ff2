"""Keras models of every kind that a user may bring, and what is done with them in tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import keras

from tensor_optix.adapters.tensorflow import backend
from tensor_optix.algorithms.tf_dqn import TFDQNAgent
from tensor_optix.core.types import EpisodeData, HyperparamSet

OBS, ACTIONS = 4, 2


class Subclassed(keras.Model):  # type: ignore[misc]
    """Takes arguments that its `get_config` does not know of."""

    def __init__(self, width: int, activation: Any) -> None:
        super().__init__()
        self.hidden = keras.layers.Dense(width, activation)
        self.out = keras.layers.Dense(ACTIONS)

    def call(self, observations: Any) -> Any:
        return self.out(self.hidden(observations))


def functional() -> Any:
    inputs = keras.Input((OBS,))
    hidden = keras.layers.Dense(8, "relu")(inputs)
    return keras.Model(inputs, keras.layers.Dense(ACTIONS)(keras.layers.Add()([hidden, hidden])))


def unbuilt(outputs: int = ACTIONS) -> Any:
    return keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(outputs)])


def with_batch_norm() -> Any:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((OBS,)), layers.Dense(8), layers.BatchNormalization(), layers.Dense(ACTIONS)]
    )


def with_dropout() -> Any:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((OBS,)), layers.Dense(64), layers.Dropout(0.5), layers.Dense(ACTIONS)]
    )


MODELS = {
    "subclassed": lambda: Subclassed(8, tf.nn.relu),
    "functional": functional,
    "unbuilt": unbuilt,
    "batch norm": with_batch_norm,
    "dropout": with_dropout,
}


def make_agent(
    model: Any, optimizer: Any = None, engine: Any = "auto", **params: Any
) -> TFDQNAgent:
    """Return a DQN agent that learns from a few rows, with targets that stay as they are."""
    defaults = {"batch_size": 8, "replay_capacity": 100, "updates_per_step": 1.0}
    optimizer, hyperparams = (
        optimizer or keras.optimizers.Adam(0.01),
        HyperparamSet(defaults | params),
    )
    agent = TFDQNAgent(model, ACTIONS, optimizer, hyperparams, engine=engine)
    agent.seed(0)
    return agent


def make_episode(rows: int = 12, seed: int = 0) -> EpisodeData:
    rng = np.random.default_rng(seed)
    observations = rng.standard_normal((rows + 1, OBS)).astype(np.float32)
    return EpisodeData(
        observations=observations[:rows],
        actions=rng.integers(0, ACTIONS, rows),
        rewards=rng.standard_normal(rows).astype(np.float32),
        terminated=np.zeros(rows, bool),
        truncated=np.zeros(rows, bool),
        infos=[],
        episode_id=0,
        final_obs=observations[rows],
    )


def values(network: Any) -> list[np.ndarray]:
    """Return copies of all its variables."""
    return [np.array(variable.numpy()) for variable in network.variables]


def make_step(network: Any, optimizer: Any, loss_fn: Any = None) -> Any:
    """Return a compiled update of `mean(network(x)^2)`, or of another loss, as a function of arrays."""

    def squares(batch: Any, scalars: Any) -> Any:
        return backend.mean(backend.square(network(batch["x"]))), {}

    descent = backend.gradient_descent(loss_fn or squares, {"network": network}, optimizer)
    loop = backend.update_loop(lambda b, s: (descent.step(b, s), {}), [network])
    return lambda x, size=None, **scalars: loop({"x": x}, size or len(x), scalars)[0]
