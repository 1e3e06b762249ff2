"""The engine's optimizers against their formulas in double precision, over many steps.

A linear network of one value, taught by DQN with one row an update, has gradients that are known:
`-2 * (reward - value) * (observation, 1)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tensor_optix.kernels import engine
from tests.kernels import engine_oracle
from tests.kernels.engine_parts import (
    ADAM,
    IDENTITY,
    KERAS_ADAM,
    SGD,
    UNLIMITED,
    Descent,
    Net,
    bits,
    descent,
    net,
    normal,
)

Array = NDArray[Any]
workspace = engine.Workspace()

BETAS = {"beta1": 0.9, "beta2": 0.999}
SETTINGS: dict[str, dict[str, Any]] = {
    "adam": {"rule": ADAM, "rate": 1e-3, "epsilon": 1e-8, **BETAS},
    "adam of SB3": {"rule": ADAM, "rate": 3e-4, "epsilon": 1e-5, **BETAS},
    "adam of other betas": {
        "rule": ADAM,
        "rate": 1e-2,
        "epsilon": 1e-3,
        "beta1": 0.5,
        "beta2": 0.9,
    },
    "adam without momentum": {
        "rule": ADAM,
        "rate": 1e-3,
        "epsilon": 1e-8,
        "beta1": 0.0,
        "beta2": 0.99,
    },
    "adam with decay": {"rule": ADAM, "rate": 1e-3, "epsilon": 1e-8, "decay": 0.1, **BETAS},
    "adamw": {
        "rule": ADAM,
        "rate": 1e-2,
        "epsilon": 1e-8,
        "decay": 0.1,
        "is_decoupled": True,
        **BETAS,
    },
    "keras's adam": {"rule": KERAS_ADAM, "rate": 1e-3, "epsilon": 1e-7, **BETAS},
    "keras's adam, large epsilon": {"rule": KERAS_ADAM, "rate": 1e-2, "epsilon": 0.1, **BETAS},
    "keras's adamw": {
        "rule": KERAS_ADAM,
        "rate": 1e-2,
        "epsilon": 1e-7,
        "decay": 0.1,
        "is_decoupled": True,
        **BETAS,
    },
    "sgd": {"rule": SGD, "rate": 1e-3},
    "sgd with decay": {"rule": SGD, "rate": 1e-3, "decay": 0.1},
    "momentum": {"rule": SGD, "rate": 1e-4, "beta1": 0.9},
    "momentum with decay": {"rule": SGD, "rate": 1e-4, "beta1": 0.9, "decay": 0.1},
    "nesterov": {"rule": SGD, "rate": 1e-4, "beta1": 0.9, "decay": 0.1, "is_nesterov": True},
}
each_optimizer = pytest.mark.parametrize("name", list(SETTINGS))
# Leaves of 1 to 40 numbers: around every vector's width, and a bias of 1.
SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40]


def linear(rng: np.random.Generator, size: int) -> Net:
    return net(rng, size, 1)


def rows_of(rng: np.random.Generator, size: int, rows: int) -> tuple[Array, Array]:
    """Return observations `[R, size]` and rewards, which are far from any value."""
    observations = normal(rng, rows, size) / np.float32(np.sqrt(size))
    return observations, rng.choice([-1.0, 1.0], rows).astype(np.float32) * 30.0 + normal(rng, rows)


def teach(network: Net, optimizer: Descent, observations: Array, rewards: Array) -> Any:
    """Make an update with each row."""
    rows = len(rewards)
    zeros, ones = np.zeros(rows, np.float32), np.ones(rows, np.float32)
    actions = np.zeros((rows, 1), np.int64)
    fields = (
        observations,
        actions,
        rewards,
        observations,
        zeros,
        ones,
        None,
        None,
        None,
        zeros.copy(),
    )
    arguments = (network.engine, network.engine, optimizer.engine, workspace, fields, 1, UNLIMITED)
    return engine.dqn(*arguments)


def oracle(
    name: str,
    arrays: list[Array],
    observations: Array,
    rewards: Array,
    steps: list[int],
    dtype: Any,
) -> list[Array]:
    """Return weight and bias after an update with each row, computed in `dtype`, and their state."""
    settings = SETTINGS[name]
    weight, bias = (array.astype(dtype) for array in arrays)
    leaves = [[values, np.zeros_like(values), np.zeros_like(values)] for values in (weight, bias)]
    for i, (row, reward) in enumerate(zip(observations.astype(dtype), rewards, strict=True)):
        error = dtype(reward) - (weight[0] @ row + bias[0])
        gradients = (dtype(-2.0) * error * row[None], np.full(1, dtype(-2.0) * error))
        for leaf, gradient, begun in zip(leaves, gradients, steps, strict=True):
            if settings["rule"] == SGD:
                engine_oracle.sgd(*leaf[:2], gradient, settings, settings.get("is_nesterov", False))
            else:
                is_keras = settings["rule"] == KERAS_ADAM
                is_decoupled = settings.get("is_decoupled", False)
                of_leaf = (leaf[0], leaf[1], leaf[2])
                engine_oracle.adam(
                    of_leaf, gradient, begun + i + 1, settings, is_keras, is_decoupled
                )
    return [array for leaf in leaves for array in leaf]


def state_of(optimizer: Descent) -> list[Array]:
    """Return values, first and second moments of each leaf, zeros in place of none."""
    parts = [part for leaf in optimizer.leaves for part in leaf.parts[:3]]
    values = [leaf.values for leaf in optimizer.leaves for _ in range(3)]
    return [np.zeros_like(v) if p is None else p for p, v in zip(parts, values, strict=True)]


def assert_close(found: Array, expected: Array, most: float) -> None:
    """Relative to the largest of each array, or to 0.01, if that is more."""
    assert np.abs(found - expected).max() <= most * max(np.abs(expected).max(), 0.01)


def assert_steps(name: str, size: int, rows: int, dtype: Any, most: float) -> None:
    rng = np.random.default_rng(size)
    network = linear(rng, size)
    observations, rewards = rows_of(rng, size, rows)
    expected = oracle(name, network.arrays, observations, rewards, [0, 0], dtype)
    optimizer = descent(network, **SETTINGS[name])
    teach(network, optimizer, observations, rewards)
    has_momentum = optimizer.leaves[0].first is not None
    for i, (found, exact) in enumerate(zip(state_of(optimizer), expected, strict=True)):
        if i % 3 == 0 or (has_momentum and exact.any()):
            assert_close(found, exact, most)


@each_optimizer
@pytest.mark.parametrize("size", SIZES)
def test_few_steps_are_those_of_the_formula(size: int, name: str) -> None:
    assert_steps(name, size, 1, np.float64, 2e-6)
    assert_steps(name, size, 10, np.float64, 1e-5)


@each_optimizer
@pytest.mark.parametrize("size", [3, 17])
def test_2000_steps_stay_with_those_of_single_precision(size: int, name: str) -> None:
    assert_steps(name, size, 2000, np.float32, 1e-4)


@pytest.mark.parametrize("name", [name for name in SETTINGS if SETTINGS[name]["rule"] != SGD])
def test_one_count_of_steps_serves_all_leaves_or_each_has_its_own(name: str) -> None:
    rng = np.random.default_rng(1)
    network = linear(rng, 9)
    twin = network.clone()
    observations, rewards = rows_of(rng, 9, 7)
    each = descent(network, **SETTINGS[name])
    one = descent(twin, has_own_steps=False, **SETTINGS[name])
    teach(network, each, observations, rewards)
    teach(twin, one, observations, rewards)
    assert one.step is not None
    assert one.step.tolist() == [7]
    assert [leaf.step.tolist() for leaf in each.leaves if leaf.step is not None] == [[7.0], [7.0]]
    assert bits(network.arrays) == bits(twin.arrays)


def test_each_leaf_goes_on_from_its_own_count() -> None:
    rng = np.random.default_rng(2)
    network = linear(rng, 9)
    observations, rewards = rows_of(rng, 9, 4)
    expected = oracle("adam", network.arrays, observations, rewards, [3, 100], np.float64)
    optimizer = descent(network, **SETTINGS["adam"])
    for leaf, begun in zip(optimizer.leaves, [3, 100], strict=True):
        assert leaf.step is not None
        leaf.step[0] = begun
    teach(network, optimizer, observations, rewards)
    for found, exact in zip(state_of(optimizer), expected, strict=True):
        assert_close(found, exact, 1e-5)
    assert [float(leaf.step[0]) for leaf in optimizer.leaves if leaf.step is not None] == [
        7.0,
        104.0,
    ]


def test_one_count_goes_on_from_where_it_is() -> None:
    rng = np.random.default_rng(3)
    network = linear(rng, 9)
    observations, rewards = rows_of(rng, 9, 4)
    expected = oracle("adam", network.arrays, observations, rewards, [50, 50], np.float64)
    optimizer = descent(network, has_own_steps=False, **SETTINGS["adam"])
    assert optimizer.step is not None
    optimizer.step[0] = 50
    teach(network, optimizer, observations, rewards)
    for found, exact in zip(state_of(optimizer), expected, strict=True):
        assert_close(found, exact, 1e-5)


def test_late_steps_are_hardly_corrected() -> None:
    """After a million steps both corrections are 1."""
    rng = np.random.default_rng(4)
    network = linear(rng, 9)
    observations, rewards = rows_of(rng, 9, 3)
    expected = oracle("adam", network.arrays, observations, rewards, [10**6] * 2, np.float64)
    optimizer = descent(network, has_own_steps=False, **SETTINGS["adam"])
    assert optimizer.step is not None
    optimizer.step[0] = 10**6
    teach(network, optimizer, observations, rewards)
    for found, exact in zip(state_of(optimizer), expected, strict=True):
        assert_close(found, exact, 1e-5)


@each_optimizer
def test_calls_go_on_where_the_last_one_ended(name: str) -> None:
    """Bit for bit; what is set in between holds from then on."""
    rng = np.random.default_rng(5)
    network = linear(rng, 21)
    twin = network.clone()
    observations, rewards = rows_of(rng, 21, 6)
    whole, parts = descent(network, **SETTINGS[name]), descent(twin, **SETTINGS[name])
    teach(network, whole, observations, rewards)
    for i in range(6):
        teach(twin, parts, observations[i : i + 1], rewards[i : i + 1])
    assert bits(whole.state) == bits(parts.state)
    numbers = {"beta1": 0.0, "beta2": 0.0, "epsilon": 0.0, "decay": 0.0} | SETTINGS[name]
    others = [numbers[key] for key in ("beta1", "beta2", "epsilon", "decay")]
    whole.engine.set(0.0, *others)
    teach(network, whole, observations, rewards)
    assert bits(network.arrays) == bits(twin.arrays)


@pytest.mark.parametrize("name", [name for name in SETTINGS if SETTINGS[name]["rule"] != SGD])
def test_no_gradient_moves_nothing_and_makes_nothing_of_it(name: str) -> None:
    """Where it was always 0, 0 is divided by epsilon; decay goes on."""
    network = Net([(np.full((1, 5), 0.5, np.float32), None, IDENTITY, True)])
    optimizer = descent(network, **SETTINGS[name])
    zeros = np.zeros((3, 5), np.float32)
    teach(network, optimizer, zeros, np.ones(3, np.float32))
    settings = SETTINGS[name]
    if "decay" not in settings:
        assert network.arrays[0].tolist() == [[0.5] * 5]
    elif settings.get("is_decoupled"):
        kept = (1.0 - settings["rate"] * settings["decay"]) ** 3
        np.testing.assert_allclose(network.arrays[0], 0.5 * kept, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-20, 1e-12, 1e-6, 1.0, 1e6, 1e12])
@pytest.mark.parametrize("name", ["adam", "keras's adam"])
def test_gradients_of_every_size(name: str, size: float) -> None:
    """Where the root of their squares is far below epsilon, above it, and of numbers near the limits."""
    network = Net([(np.zeros((1, 19), np.float32), None, IDENTITY, True)])
    observations = np.linspace(0.5, 1.5, 19, dtype=np.float32)[None]
    rewards = np.full(1, size, np.float32)
    optimizer = descent(network, **SETTINGS[name])
    teach(network, optimizer, observations, rewards)
    exact = np.zeros((1, 19)), np.zeros((1, 19)), np.zeros((1, 19))
    gradient = -2.0 * float(rewards[0]) * observations.astype(float)
    engine_oracle.adam(exact, gradient, 1, SETTINGS[name], name != "adam")
    found = state_of(optimizer)
    np.testing.assert_allclose(found[0], exact[0], rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(found[1], exact[1], rtol=1e-5)
    np.testing.assert_allclose(found[2], exact[2], rtol=1e-5, atol=1e-44)


@each_optimizer
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e25])
def test_a_skipped_update_leaves_everything_and_is_counted(name: str, value: float) -> None:
    """Steps included; 1e25, of which the square is infinite in single precision, counts as infinite."""
    rng = np.random.default_rng(6)
    network = linear(rng, 13)
    observations, rewards = rows_of(rng, 13, 5)
    for has_own_steps in (True, False):
        optimizer = descent(network, has_own_steps=has_own_steps, **SETTINGS[name])
        teach(network, optimizer, observations, rewards)
        before = bits(optimizer.state)
        bad = np.full(3, value, np.float32)
        assert teach(network, optimizer, observations[:3], bad) == (0.0, 0.0, 0.0, 3, 3)
        assert bits(optimizer.state) == before
