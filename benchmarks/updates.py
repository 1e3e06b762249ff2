"""What one PPO update costs: the native engine, PyTorch eager and compiled, TensorFlow compiled and not.

    python -m benchmarks.updates [--rounds 9]

Prints microseconds per minibatch at the documented defaults (2048 rows, 10 epochs, minibatches of 64; two
64-64 tanh networks; one thread). All learn from the same window, one after the other in every round, so
that each ratio is of neighbours in time; the first call, which traces and compiles, is listed apart.
"The plain loop" makes the same updates as an agent that nobody has optimised would, eagerly: the gradients
of one tape, clipping by the norm, `optimizer.apply`. It makes one epoch a round, because it is slow.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import torch
from torch import nn

from tensor_optix import EpisodeData
from tensor_optix.algorithms.tf_ppo import TFPPOAgent
from tensor_optix.algorithms.torch_ppo import TorchPPOAgent

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.algorithms.network_agent import Engine

ROWS, MINIBATCH, EPOCHS, INPUTS, ACTIONS, WIDTH = 2048, 64, 10, 4, 2, 64
CLIP_RATIO, VF_COEF, ENTROPY_COEF, MAX_NORM, RATE = 0.2, 0.5, 0.01, 0.5, 3e-4
REFERENCE = "PyTorch, eager"


def make_window() -> EpisodeData:
    """Return a window of random rows."""
    rng = np.random.default_rng(0)
    return EpisodeData(
        observations=rng.standard_normal((ROWS, INPUTS), np.float32),
        actions=rng.integers(0, ACTIONS, ROWS),
        rewards=rng.standard_normal(ROWS, np.float32),
        terminated=rng.random(ROWS) < 0.02,
        truncated=np.zeros(ROWS, bool),
        infos=[],
        episode_id=0,
        final_obs=np.zeros(INPUTS, np.float32),
    )


def make_torch(compile: bool = False, engine: Engine = "framework") -> TorchPPOAgent:
    """Return an agent on PyTorch."""

    def network(outputs: int) -> nn.Module:
        hidden = [nn.Linear(INPUTS, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh()]
        return nn.Sequential(*hidden, nn.Linear(WIDTH, outputs))

    actor, critic = network(ACTIONS), network(1)
    adam = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=RATE)
    return TorchPPOAgent(actor, critic, adam, device="cpu", compile=compile, engine=engine)


def make_keras(engine: Engine) -> TFPPOAgent:
    """Return an agent on TensorFlow."""
    networks = keras_network(ACTIONS), keras_network(1)
    return TFPPOAgent(*networks, keras.optimizers.Adam(RATE), engine=engine)


def keras_network(outputs: int) -> keras.Model:
    """Return a network for TensorFlow."""
    hidden = [keras.layers.Dense(WIDTH, "tanh") for _ in range(2)]
    return keras.Sequential([keras.Input((INPUTS,)), *hidden, keras.layers.Dense(outputs)])


def make_plain_loop(window: EpisodeData) -> Callable[[], None]:
    """Return one epoch of eager TensorFlow updates."""
    actor, critic = keras_network(ACTIONS), keras_network(1)
    optimizer = keras.optimizers.Adam(RATE)
    variables = actor.trainable_variables + critic.trainable_variables
    rng = np.random.default_rng(1)
    advantages, returns = (rng.standard_normal(ROWS, np.float32) for _ in range(2))
    old = np.full(ROWS, -np.log(ACTIONS), np.float32)
    fields = (window.observations, window.actions, old, advantages, returns)

    def update(batch: list[Any]) -> None:
        with tf.GradientTape() as tape:
            loss = plain_loss(actor, critic, *batch)
        gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, variables), MAX_NORM)
        optimizer.apply(gradients, variables)

    def epoch() -> None:
        order = rng.permutation(ROWS)
        for start in range(0, ROWS, MINIBATCH):
            rows = order[start : start + MINIBATCH]
            update([tf.constant(field[rows]) for field in fields])

    return epoch


def plain_loss(
    actor: Any,
    critic: Any,
    observations: Any,
    actions: Any,
    old: Any,
    advantages: Any,
    returns: Any,
) -> Any:
    """Return the loss of PPO."""
    log_probs = tf.nn.log_softmax(actor(observations))
    ratio = tf.exp(tf.gather(log_probs, actions, batch_dims=1) - old)
    clipped = tf.clip_by_value(ratio, 1.0 - CLIP_RATIO, 1.0 + CLIP_RATIO)
    policy_loss = -tf.reduce_mean(tf.minimum(ratio * advantages, clipped * advantages))
    value_loss = tf.reduce_mean(tf.square(critic(observations)[:, 0] - returns))
    entropy = -tf.reduce_mean(tf.reduce_sum(tf.exp(log_probs) * log_probs, axis=-1))
    return policy_loss + VF_COEF * value_loss - ENTROPY_COEF * entropy


def timed(call: Callable[[], Any], updates: int) -> float:
    """Return the microseconds per update of a call."""
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) / updates * 1e6


def run() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    window = make_window()
    agents = {
        "PyTorch's networks, the native engine": make_torch(engine="native"),
        "TensorFlow's networks, the native engine": make_keras("native"),
        REFERENCE: make_torch(),
        "PyTorch, compiled": make_torch(compile=True),
        "TensorFlow, compiled": make_keras("framework"),
    }
    per_epoch = ROWS // MINIBATCH
    calls: dict[str, tuple[Callable[[], Any], int]] = {
        **{name: (partial(one.learn, window), EPOCHS * per_epoch) for name, one in agents.items()},
        "TensorFlow, the plain loop": (make_plain_loop(window), per_epoch),
    }
    first = {name: timed(call, 1) / 1e6 for name, (call, _) in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, (call, updates) in calls.items():
            times[name].append(timed(call, updates))
    print("| updates | median, us | min, us | times as fast as eager PyTorch | first call, s |")
    print("|---|---|---|---|---|")
    for name, measured in times.items():
        pairs = zip(times[REFERENCE], measured, strict=True)
        ratio = statistics.median(reference / own for reference, own in pairs)
        figures = f"{statistics.median(measured):,.0f} | {min(measured):,.0f} | {ratio:.2f}"
        print(f"| {name} | {figures} | {first[name]:.1f} |")


if __name__ == "__main__":
    run()
