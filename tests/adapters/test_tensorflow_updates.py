"""Compiled updates: traced once whatever a tuner changes, flat in memory, without XLA where it refuses."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import keras

from tensor_optix.adapters.tensorflow import backend, graphs
from tensor_optix.algorithms.tf_agent import TFAgent
from tensor_optix.algorithms.tf_ppo import TFPPOAgent
from tensor_optix.core.types import HyperparamSet
from tests.adapters.keras_models import OBS, make_agent, make_episode, make_step, values
from tests.algorithms import small_sac
from tests.frameworks import framework_engine

MEGABYTE = 2**20


def perceptron(outputs: int = 2) -> keras.Model:
    layers = keras.layers
    return keras.Sequential([keras.Input((OBS,)), layers.Dense(8, "tanh"), layers.Dense(outputs)])


def tuned(agent) -> list[dict[str, float]]:
    """Both bounds of everything that a tuner changes."""
    bounds = agent.default_param_bounds.items()
    return [{name: value} for name, pair in bounds for value in pair]


@pytest.fixture
def without_xla(monkeypatch):
    """It takes most of the time, and functions are traced as often."""
    monkeypatch.setattr(graphs, "pays", lambda networks: False)


@pytest.mark.usefixtures("without_xla")
def test_ppo_is_traced_once_while_hyperparameters_and_windows_change():
    optimizer = keras.optimizers.Adam(0.01)
    agent = TFPPOAgent(perceptron(), perceptron(1), optimizer, engine="framework")
    agent.set_hyperparams(HyperparamSet({"n_epochs": 1, "minibatch_size": 16}))
    changes = [*tuned(agent), {"max_grad_norm": 1.0}, {"vf_coef": 0.1}, {"gae_lambda": 0.5}]
    lengths = itertools.cycle((40, 33, 64, 50))
    for change, length in zip(changes, lengths, strict=False):
        agent.set_hyperparams(HyperparamSet(change))
        agent.learn(make_episode(length))
        agent.act(np.zeros(OBS, np.float32))
    assert agent._epoch.trace_count == 1
    for length in (2, 100, 4097):
        agent.act_batch(np.zeros((length, OBS), np.float32))
    for inference in (agent._policy, agent._values, agent._log_probs):
        assert inference.trace_count == 1


@pytest.mark.usefixtures("without_xla")
def test_dqn_is_traced_once_while_hyperparameters_and_windows_change():
    agent = make_agent(perceptron(), engine="framework")
    changes = [*tuned(agent), {"max_grad_norm": 1.0}, {"epsilon": 0.5}, {"target_update_freq": 7}]
    for change, length in zip(changes, itertools.cycle((9, 3, 16)), strict=False):
        agent.set_hyperparams(HyperparamSet(change))
        agent.learn(make_episode(length))
        agent.act(np.zeros(OBS, np.float32))
    assert agent._loop.trace_count == 1
    assert agent._values.trace_count == 1


@pytest.mark.usefixtures("without_xla")
def test_sac_is_traced_once_while_hyperparameters_and_windows_change(tensorflow_framework):
    with framework_engine():
        agent = small_sac.make_agent(framework=tensorflow_framework)
    for change, length in zip(tuned(agent), itertools.cycle((17, 5, 9)), strict=False):
        agent.set_hyperparams(HyperparamSet(change))
        agent.learn(small_sac.make_episode(length))
    assert agent._loop.trace_count == 1


def test_windows_of_another_length_are_not_compiled_anew():
    agent = TFAgent(perceptron(), keras.optimizers.Adam(0.01), engine="framework")
    seconds = []
    for length in range(30, 36):
        start = time.perf_counter()
        agent.learn(make_episode(length))
        seconds.append(time.perf_counter() - start)
    assert np.median(seconds[1:]) < 0.2 * seconds[0]


@pytest.mark.parametrize("name", ["update loop", "inference"])
def test_resident_memory_is_flat(name):
    network = perceptron()
    step = make_step(network, keras.optimizers.Adam(1e-4))
    forward = backend.inference(network, [network])
    lengths = itertools.cycle((64, 57, 33))

    def run(count: int) -> None:
        for length in itertools.islice(lengths, count):
            x = np.ones((length, OBS), np.float32)
            if name == "inference":
                forward(x)
            else:
                step(x, 16)

    run(200)
    before = resident()
    run(1000)
    assert resident() - before < 20 * MEGABYTE


def resident() -> int:
    """Bytes of memory that this process holds."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("this system has no /proc")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


class PassedThroughPython(keras.layers.Layer):
    """Doubles in Python, which XLA cannot compile."""

    def call(self, inputs):
        @tf.custom_gradient
        def double(x):
            doubled = tf.numpy_function(lambda array: 2.0 * array, [x], tf.float32)
            doubled.set_shape(x.shape)
            return doubled, lambda upstream: 2.0 * upstream

        return double(inputs)


class Doubled(keras.layers.Layer):
    """The same within TensorFlow."""

    def call(self, inputs):
        return 2.0 * inputs


def test_what_xla_refuses_runs_without_it_with_a_warning_and_learns_the_same(caplog):
    plain, through_python = (
        keras.Sequential([keras.Input((OBS,)), keras.layers.Dense(2), layer])
        for layer in (Doubled(), PassedThroughPython())
    )
    through_python.set_weights(plain.get_weights())
    x = np.random.default_rng(0).standard_normal((20, OBS)).astype(np.float32)
    steps = [make_step(network, keras.optimizers.Adam(0.01)) for network in (plain, through_python)]
    for _ in range(3):
        expected, got = (step(x, 8) for step in steps)
        assert got["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-4)
    assert sum("without XLA" in record.message for record in caplog.records) == 1
    for one, other in zip(values(plain), values(through_python), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
