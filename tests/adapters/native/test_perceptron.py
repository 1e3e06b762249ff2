"""Perceptrons without a framework: their weights, what they compute, and what observations go through."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from tensor_optix.adapters.backend import LARGEST_BYTE, ByteField
from tensor_optix.adapters.native import layers
from tensor_optix.adapters.native.encodings import NativeByteScale, NativeFlatten, NativeOneHot
from tensor_optix.adapters.native.perceptron import DenseNetwork, Perceptron
from tensor_optix.adapters.network_recipes import HIDDEN_GAIN, NetworkRecipes
from tests.adapters.small_sights import Maker

RECIPES = NetworkRecipes(layers)
ROWS = np.random.default_rng(0).standard_normal((5, 4), np.float32)


def matrices(network: DenseNetwork) -> list[np.ndarray]:
    return [one.weight for one in network.layers()]


def test_weights_are_orthogonal_with_their_gains_and_biases_are_0() -> None:
    for network in (
        Perceptron(4, 2, hidden=(16, 8), seed=0, output_gain=0.01),
        RECIPES.mlp(4, 2, (16, 8), seed=0, output_gain=0.01),
    ):
        first, second, last = matrices(network)
        assert first.shape == (16, 4)
        np.testing.assert_allclose(first.T @ first, np.eye(4) * HIDDEN_GAIN**2, atol=1e-5)
        np.testing.assert_allclose(second @ second.T, np.eye(8) * HIDDEN_GAIN**2, atol=1e-5)
        np.testing.assert_allclose(last @ last.T, np.eye(2) * 0.01**2, atol=1e-8)
        assert not any(one.bias.any() for one in network.layers())
        assert {array.dtype for array in network.weights} == {np.dtype(np.float32)}


def test_orthogonal_weights_are_drawn_from_all_of_them() -> None:
    """Without the signs of the decomposition, those of the first column would all be negative."""
    firsts = [matrices(Perceptron(3, 3, hidden=(), seed=seed))[0][0, 0] for seed in range(200)]
    assert abs(np.mean(firsts)) < 0.15
    assert np.var(firsts) == pytest.approx(1 / 3, rel=0.2)


def test_relu_layers_start_within_the_bounds_of_their_fan_in() -> None:
    for array in RECIPES.relu_mlp(4, 3, (100,), seed=0).layers()[0][:2]:
        assert 0.45 < np.abs(array).max() <= 0.5


def test_the_seed_decides_the_weights_and_no_global_state_is_touched() -> None:
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    first, again, other = (matrices(Perceptron(4, 2, seed=seed))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (matrices(Perceptron(4, 2))[0] != matrices(Perceptron(4, 2))[0]).any()
    assert np.random.rand() == expected  # noqa: NPY002


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("tanh", np.tanh),
        ("relu", lambda x: np.maximum(x, 0)),
        ("elu", lambda x: np.where(x > 0, x, np.exp(x) - 1)),
        ("silu", lambda x: x / (1 + np.exp(-x))),
    ],
)
def test_hidden_layers_are_followed_by_their_activation(activation: Any, function: Any) -> None:
    network = Perceptron(4, 2, hidden=(8,), activation=activation, seed=0)
    first, last = matrices(network)
    expected = function(ROWS.astype(np.float64) @ first.T.astype(np.float64)) @ last.T
    outputs = network(ROWS)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_no_hidden_layers_make_a_linear_map() -> None:
    network = Perceptron(4, 3, hidden=(), seed=0)
    np.testing.assert_allclose(network(ROWS), ROWS @ network.weights[0].T, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"inputs": 0, "outputs": 2}, "inputs must be a whole number of at least 1, got 0"),
        ({"inputs": 4, "outputs": 2, "hidden": (8, 0)}, "hidden must be .* at least 1, got 0"),
        (
            {"inputs": 4, "outputs": 2, "activation": "relo"},
            "'tanh', 'relu', 'elu', 'silu', got 'relo'; did you mean 'relu'",
        ),
    ],
)
def test_what_makes_no_perceptron_is_refused(arguments: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Perceptron(**arguments)


def test_a_copy_has_memory_of_its_own() -> None:
    network = Perceptron(4, 2, seed=0)
    copied = copy.deepcopy(network)
    for own, other in zip(copied.weights, network.weights, strict=True):
        np.testing.assert_array_equal(own, other)
        other += 1.0
        assert (own != other).all()
    assert copied.weights[0] is copied.layers()[0].weight


def test_numbers_become_unit_vectors_counted_from_their_start() -> None:
    encode = NativeOneHot((3,), (2,))
    assert encode(np.array([2, 4, 0])).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    several = NativeOneHot((2, 3), (1, 0))
    rows = several(np.array([[2, 0], [1, 2]]))
    assert rows.tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    with_actions = several(np.array([[2.0, 0.0, 0.25, -0.5]], np.float32))
    assert with_actions.tolist() == [[0, 1, 1, 0, 0, 0.25, -0.5]]


def test_bytes_are_divided_by_what_their_field_says() -> None:
    scale = NativeByteScale((ByteField(2, 4), ByteField(1, 1), ByteField(1, LARGEST_BYTE)))
    rows = np.array([[4, 2, 9, 255]], np.uint8)
    np.testing.assert_allclose(scale(rows), [[1.0, 0.5, 9.0, 1.0]])
    assert rows.tolist() == [[4, 2, 9, 255]]
    scale.write(np.array([2, 1, 51]))
    with_action = np.array([[4, 2, 9, 255, 7]], np.float32)
    np.testing.assert_allclose(scale(with_action), [[2.0, 1.0, 9.0, 5.0, 7.0]])


def test_encodings_are_alike_if_they_do_the_same() -> None:
    assert NativeOneHot((3,), (0,)) == NativeOneHot((3,), (0,)) != NativeOneHot((3,), (1,))
    first, second = (NativeByteScale((ByteField(2, 4),)) for _ in range(2))
    assert first == second != NativeByteScale((ByteField(2, 5),))
    assert NativeFlatten() == NativeFlatten()


def test_images_are_refused_with_what_to_install() -> None:
    with pytest.raises(ValueError, match=r"images need: pip install 'tensor-optix\[torch\]'"):
        Maker(RECIPES).nature_cnn((4, 40, 40), 2, (8,), seed=0)
