"""The gradients of each algorithm's losses with respect to every weight are the same in both frameworks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("torch")

from tensor_optix.adapters.pytorch.gradient_descent import leaves_of
from tests.parity.agents import (
    make_dqn,
    make_gaussian_ppo,
    make_generic,
    make_ppo,
    make_ppo_with_trunk,
    make_sac,
    make_td3,
)
from tests.parity.frameworks import assert_same, tf, torch
from tests.parity.twins import in_keras_layout
from tests.parity.windows import ACTION_DIM, IMAGE, NUM_ACTIONS, VECTOR, draw_observations

RNG = np.random.default_rng(6)
SCALARS = {"clip_ratio": 0.2, "vf_coef": 0.7, "entropy_coef": 0.05}


def by_torch(loss: Any, networks: list[Any], batch: Any) -> tuple[float, list[Any]]:
    """Return the loss and its gradients, in the layout of Keras."""
    tensors = {name: torch.tensor(array) for name, array in batch.items()}
    value, _ = loss(tensors, {name: torch.tensor(x) for name, x in SCALARS.items()})
    leaves = [leaf for network in networks for leaf in leaves_of(network)]
    gradients = torch.autograd.grad(value, [leaf.tensor for leaf in leaves])
    by_parameter = {}
    for leaf, gradient in zip(leaves, gradients, strict=True):
        parts = gradient if len(leaf.parameters) > 1 else [gradient]
        for parameter, part in zip(leaf.parameters, parts, strict=True):
            by_parameter[id(parameter)] = in_keras_layout(part.numpy())
    parameters = [p for network in networks for p in network.parameters()]
    return float(value.detach()), [by_parameter[id(p)] for p in parameters]


def by_tensorflow(loss: Any, networks: list[Any], batch: Any) -> tuple[float, list[Any]]:
    """Return the loss and its gradients."""
    tensors = {name: tf.constant(array) for name, array in batch.items()}
    held = [v.value for network in networks for v in network.trainable_variables]
    with tf.GradientTape() as tape:
        value, _ = loss(tensors, {name: tf.constant(x) for name, x in SCALARS.items()})
    return float(value), [g.numpy() for g in tape.gradient(value, held)]


def assert_gradients_agree(twins: Any, loss: str, networks: list[str], batch: Any) -> None:
    outcomes = [
        by(getattr(agent, loss), [getattr(agent, name) for name in networks], batch)
        for by, agent in zip((by_torch, by_tensorflow), twins, strict=True)
    ]
    (ours, mine), (theirs, others) = outcomes
    # A loss is a mean of terms of about 1, which may cancel.
    assert theirs == pytest.approx(ours, rel=1e-5, abs=1e-6)
    for one, other in zip(mine, others, strict=True):
        shape = other.shape if one.size == 1 else one.shape
        assert np.abs(one).max() > 0.0, "a gradient of zero would show nothing"
        assert_same(other, one.reshape(shape))


def numbers(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def policy_batch(b: int, obs_shape: tuple[int, ...], actions: Any) -> dict[str, Any]:
    return {
        "observations": draw_observations(RNG, b, obs_shape),
        "actions": actions,
        # Ratios on both sides of both clip bounds.
        "log_probs": -1.1 + numbers(b),
        "advantages": numbers(b),
        "returns": numbers(b),
        "targets": numbers(b),
    }


def replay_batch(b: int, obs_shape: tuple[int, ...], actions: Any) -> dict[str, Any]:
    return {
        "observations": draw_observations(RNG, b, obs_shape),
        "actions": actions,
        "targets": numbers(b),
        "weights": RNG.uniform(0.1, 1.0, b).astype(np.float32),
        "noise": numbers(b, ACTION_DIM),
        "log_probs": numbers(b),
    }


def choices(b: int) -> Any:
    return RNG.integers(0, NUM_ACTIONS, b)


BATCHES = pytest.mark.parametrize("b", [32, 1])
SHAPES = pytest.mark.parametrize("obs_shape", [VECTOR, IMAGE], ids=["vectors", "images"])


@BATCHES
@SHAPES
def test_of_ppo(obs_shape, b):
    batch = policy_batch(b, obs_shape, choices(b))
    if b == 1:
        # Within the clip bounds, where the policy has a gradient.
        batch["log_probs"][:] = np.log(1.0 / NUM_ACTIONS)
    assert_gradients_agree(make_ppo(obs_shape=obs_shape), "_loss", ["_actor", "_critic"], batch)


@SHAPES
def test_of_ppo_with_one_trunk(obs_shape):
    batch = policy_batch(32, obs_shape, choices(32))
    twins = make_ppo_with_trunk(obs_shape=obs_shape)
    assert_gradients_agree(twins, "_loss", ["_actor", "_critic"], batch)


@BATCHES
def test_of_gaussian_ppo(b):
    # Where the tanh of an action does not saturate, for there float32 leaves less than 1e-5.
    batch = policy_batch(b, VECTOR, 0.5 * numbers(b, ACTION_DIM))
    assert_gradients_agree(make_gaussian_ppo(), "_loss", ["_actor", "_critic"], batch)


@BATCHES
@SHAPES
def test_of_the_policy_gradient(obs_shape, b):
    batch = policy_batch(b, obs_shape, choices(b))
    assert_gradients_agree(make_generic(obs_shape=obs_shape), "_loss", ["model"], batch)


@BATCHES
@SHAPES
def test_of_dqn(obs_shape, b):
    batch = replay_batch(b, obs_shape, choices(b))
    if b == 32:
        batch["weights"][:3] = 0.0
    assert_gradients_agree(make_dqn(obs_shape=obs_shape), "_loss", ["_q_network"], batch)


@BATCHES
@SHAPES
def test_of_sac(obs_shape, b):
    twins = make_sac(obs_shape=obs_shape)
    batch = replay_batch(b, obs_shape, np.tanh(numbers(b, ACTION_DIM)))
    assert_gradients_agree(twins, "_critic_loss", ["_critics"], batch)
    assert_gradients_agree(twins, "_actor_loss", ["_actor"], batch)
    assert_gradients_agree(twins, "_alpha_loss", ["_log_alpha"], batch)


@BATCHES
@SHAPES
def test_of_td3(obs_shape, b):
    twins = make_td3(obs_shape=obs_shape)
    batch = replay_batch(b, obs_shape, np.tanh(numbers(b, ACTION_DIM)))
    assert_gradients_agree(twins, "_critic_loss", ["_critics"], batch)
    assert_gradients_agree(twins, "_actor_loss", ["_actor"], batch)
