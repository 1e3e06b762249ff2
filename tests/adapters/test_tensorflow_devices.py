"""Devices: networks compute where they are, and are refused where they were not asked for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

tf = pytest.importorskip("tensorflow")

import keras

from tensor_optix.algorithms.tf_dqn import TFDQNAgent

ON_THE_SECOND = """
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras
import numpy as np
from tensor_optix.algorithms.tf_dqn import TFDQNAgent
from tensor_optix.core.types import EpisodeData, HyperparamSet

def make_network():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])

def make_agent(network, device):
    params = HyperparamSet({"batch_size": 4, "updates_per_step": 1.0})
    with tf.device(network.variables[0].value.device):
        optimizer = keras.optimizers.Adam(0.01)
    return TFDQNAgent(network, 2, optimizer, params, device=device)

first = make_network()
with tf.device("/CPU:1"):
    second = make_network()
agent = make_agent(second, "cpu:1")
rows = 8
agent.learn(EpisodeData(
    observations=np.ones((rows, 4), np.float32), actions=np.zeros(rows, np.int64),
    rewards=np.ones(rows, np.float32), terminated=np.zeros(rows, bool),
    truncated=np.zeros(rows, bool), infos=[], episode_id=0, final_obs=np.ones(4, np.float32),
))
actions = agent.act_greedy(np.ones((3, 4), np.float32))
assert actions.shape == (3,)
traced = next(iter(agent._values._traced.values()))
devices = {op.device for op in traced.graph.graph.get_operations() if op.type == "MatMul"}
assert devices and all(device.endswith("CPU:1") for device in devices), devices
held = [*agent._target.variables, *agent._optimizers["optimizer"].variables]
places = {variable.value.device for variable in held}
assert all(place.endswith("CPU:1") for place in places), places
assert agent._loop._traced and all(t._loop.is_compiled for t in agent._loop._traced.values())
for network, device in ((first, "cpu:1"), (second, "cpu"), (second, "cpu:0")):
    try:
        make_agent(network, device)
    except ValueError as error:
        assert "q_network must be on" in str(error) and "tf.device" in str(error), error
    else:
        raise AssertionError(f"a network elsewhere than on {device} was taken")
make_agent(first, "cpu")
make_agent(first, "/CPU:0")

# The agent itself refuses networks that are elsewhere.
import sys, tensor_optix
ready = {"framework": "tensorflow", "hidden_sizes": (4,), "device": "cpu:1"}
tensor_optix.make_agent("CartPole-v1", **ready)
assert "torch" not in sys.modules
print("passed")
"""


def test_networks_on_a_second_device_compute_there_are_made_there_and_a_mismatch_is_refused():
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", ON_THE_SECOND],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.stdout.endswith("passed\n"), done.stderr[-2000:]


@pytest.mark.parametrize("device", ["cuda:7", "cpu:99", "quantum", "", "/CPU:x"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(device):
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"cannot be used: there are cpu:0.*; choose one or auto"):
        TFDQNAgent(network, 2, keras.optimizers.Adam(0.01), device=device)


def test_a_device_is_only_for_networks_that_exist():
    network = keras.Sequential([keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="the q_network has no variables yet"):
        TFDQNAgent(network, 2, keras.optimizers.Adam(0.01), device="cpu")
