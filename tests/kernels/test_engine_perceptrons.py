"""Perceptrons forward: layers, activations and their accuracy, log-probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.kernels import engine
from tests.kernels import engine_oracle
from tests.kernels.engine_parts import (
    ACTIVATIONS,
    ELU,
    IDENTITY,
    RELU,
    SILU,
    TANH,
    UNLIMITED,
    Net,
    descent,
    net,
    normal,
    random_masks,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

workspace = engine.Workspace()
SIZES = [(3, 2), (4, 64, 2), (17, 64, 64, 6), (5, 33, 1, 20, 3), (8, 16, 15, 17, 31, 1)]


def forward(network: Net, inputs: Array) -> Array:
    weight, _, _, is_by_outputs = network.layers[-1]
    outputs = np.full((len(inputs), weight.shape[0 if is_by_outputs else 1]), 7.0, np.float32)
    engine.forward(network.engine, inputs, outputs, workspace)
    return outputs


@pytest.mark.parametrize("is_by_outputs", [True, False])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_forward_is_that_of_double_precision(
    sizes: tuple[int, ...], activation: int, has_bias: bool, is_by_outputs: bool
) -> None:
    rng = np.random.default_rng(1)
    for last in (IDENTITY, activation):
        network = net(
            rng,
            *sizes,
            activation=activation,
            last=last,
            has_bias=has_bias,
            is_by_outputs=is_by_outputs,
        )
        for rows in (1, 5, 64, 513):
            inputs = normal(rng, rows, sizes[0])
            expected = engine_oracle.Double(network)(inputs)
            np.testing.assert_allclose(forward(network, inputs), expected, rtol=1e-5, atol=5e-6)


def test_layers_of_both_layouts_and_of_every_activation_follow_one_another() -> None:
    rng = np.random.default_rng(2)
    layers = []
    for i, activation in enumerate([*ACTIVATIONS, *ACTIVATIONS, *ACTIVATIONS, TANH]):
        weight = normal(rng, 5, 5)
        layers.append((weight, normal(rng, 5) if i % 3 else None, activation, i % 2 == 0))
    network, inputs = Net(layers), normal(rng, 40, 5)
    expected = engine_oracle.Double(network)(inputs)
    np.testing.assert_allclose(forward(network, inputs), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_row_does_not_depend_on_the_others(sizes: tuple[int, ...], activation: int) -> None:
    """Bit for bit, and at every place in a block of the largest."""
    rng = np.random.default_rng(3)
    network, inputs = net(rng, *sizes, activation=activation), normal(rng, 600, sizes[0])
    whole = forward(network, inputs)
    assert forward(network, inputs).tobytes() == whole.tobytes()
    for i in (*range(40), *range(500, 530), 599):
        assert forward(network, inputs[i : i + 1]).tobytes() == whole[i].tobytes()
    for count in range(2, 40):
        assert forward(network, inputs[:count]).tobytes() == whole[:count].tobytes()


def test_no_rows_are_legal() -> None:
    network = net(np.random.default_rng(4), 3, 8, 2)
    assert forward(network, np.empty((0, 3), np.float32)).shape == (0, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_not_finite_stays_in_its_row(activation: int, value: float) -> None:
    rng = np.random.default_rng(5)
    network, inputs = net(rng, 4, 19, 3, activation=activation), normal(rng, 9, 4)
    whole = forward(network, inputs)
    inputs[4, 2] = value
    with np.errstate(invalid="ignore"):
        expected = engine_oracle.Double(network)(inputs)[4]
    found = forward(network, inputs)
    np.testing.assert_allclose(found[4], expected, rtol=1e-4)
    others = [i for i in range(9) if i != 4]
    assert found[others].tobytes() == whole[others].tobytes()


def dense_grid() -> Array:
    """All magnitudes, the usual ones more densely, of both signs."""
    most = np.float32(np.finfo(np.float32).max).view(np.int32)
    every = np.arange(0, int(most) + 1, 21_001, dtype=np.int32).view(np.float32)
    usual = np.linspace(1e-4, 20.0, 200_003, dtype=np.float32)
    near = np.geomspace(1e-8, 1.0, 50_001, dtype=np.float32)
    special = np.array(
        [0.0, 1e-45, 1e-40, 1.1754943e-38, 88.37, 88.38, 88.72, 87.3, 100.0, 1e4, 3.4028235e38],
        np.float32,
    )
    positive = np.concatenate([every, usual, near, special])
    return np.concatenate([positive, -positive])


def activated(activation: int, numbers: Array) -> Array:
    return forward(Net([(np.ones((1, 1), np.float32), None, activation, True)]), numbers[:, None])[
        :, 0
    ]


def ulps(found: Array, expected: Array) -> float:
    """Return the largest error in units in the last place of what is expected."""
    size = np.minimum(np.abs(expected.astype(np.float32)), np.float32(3e38))
    unit = np.spacing(size).astype(float)
    return float((np.abs(found.astype(float) - expected) / unit).max())


def assert_ulps(activation: int, exact: Callable[[Array], Array], grid: Array, most: float) -> None:
    assert ulps(activated(activation, grid), exact(grid.astype(float))) <= most


def test_tanh_is_within_8_units_in_the_last_place() -> None:
    """Which products and sums round together is the compiler's choice."""
    grid = dense_grid()
    assert_ulps(TANH, np.tanh, grid, 8.0)
    assert (np.abs(activated(TANH, grid)) <= 1.0).all()
    assert activated(TANH, np.array([np.inf, -np.inf], np.float32)).tolist() == [1.0, -1.0]


def test_tanh_is_odd_and_nearly_monotonous() -> None:
    grid = np.sort(np.abs(dense_grid()))
    found = activated(TANH, grid)
    assert (activated(TANH, -grid) == -found).all()
    assert (np.diff(found) >= -8.0 * np.spacing(found[1:])).all()


def test_elu_is_within_5_units_in_the_last_place() -> None:
    grid = dense_grid()
    assert_ulps(ELU, engine_oracle.ACTIVATIONS[ELU], grid, 5.0)
    assert activated(ELU, np.array([np.inf, -np.inf], np.float32)).tolist() == [np.inf, -1.0]


def exact_silu(x: Array) -> Array:
    """Where the oracle's logistic function is 0, e^x is still more than that."""
    decayed = np.exp(-np.abs(x))
    return np.asarray(x * np.where(x < 0.0, decayed, 1.0) / (1.0 + decayed))


def test_silu_is_within_4_units_in_the_last_place() -> None:
    """Below -87.3, where it would be less than 2e-36, it is 0."""
    grid = dense_grid()
    assert_ulps(SILU, exact_silu, grid[grid > -87.3], 4.0)
    assert not activated(SILU, grid[grid < -87.31]).any()
    # As PyTorch's: -inf / (1 + inf).
    found = activated(SILU, np.array([np.inf, -np.inf], np.float32))
    assert found[0] == np.inf
    assert np.isnan(found[1])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_zeros_stay_zero_and_nan_stays_nan(activation: int) -> None:
    assert activated(activation, np.array([0.0, -0.0], np.float32)).tolist() == [0.0, 0.0]
    assert np.isnan(activated(activation, np.full(37, np.nan, np.float32))).all()


def test_relu_and_none_are_exact() -> None:
    grid = dense_grid()
    assert (activated(IDENTITY, grid) == grid).all()
    assert (activated(RELU, grid) == np.maximum(grid, 0.0)).all()


def exponentials(numbers: Array) -> Array:
    """Return e^x as PPO's ratio has it: of one action, whose log-probability is 0, and old ones of -x.

    Nothing is clipped and advantages are 1, so that the loss is minus the ratio.
    """
    actor, critic = (Net([(np.zeros((1, 1), np.float32), None, IDENTITY, True)]) for _ in range(2))
    optimizer = descent(actor, critic, rate=0.0).engine
    one, action, old = np.ones(1, np.float32), np.zeros((1, 1), np.int64), np.empty(1, np.float32)
    batch = (one[:, None], action, None, old, one, one)
    settings = (1, UNLIMITED, 0.0, 0.0, UNLIMITED)
    found = np.empty(len(numbers))
    for i, number in enumerate(numbers):
        old[0] = -number
        arguments = (actor.engine, critic.engine, optimizer, workspace, batch, (1,), settings)
        found[i] = -engine.ppo(*arguments)[0]
    return found


def test_exp_is_within_2_units_in_the_last_place() -> None:
    """Where it is a normal number; less is 0, and more than e^88.37 is that."""
    grid = np.linspace(-87.3, 88.37, 20_011, dtype=np.float32)
    near = np.geomspace(1e-30, 1.0, 501, dtype=np.float32)
    grid = np.concatenate([grid, near, -near, np.zeros(1, np.float32)])
    assert ulps(exponentials(grid), np.exp(grid.astype(float))) <= 2.0
    assert not exponentials(np.array([-87.31, -88.0, -1e4, -3e38], np.float32)).any()
    assert exponentials(np.array([89.0, 3e38], np.float32)) == pytest.approx(np.exp(88.37), 1e-5)


def squashed_log_probs(pre_tanh: Array) -> Array:
    """Return the log-densities of actions, each the mean of its Gaussian of standard deviation 1."""
    weight = np.array([[1.0, 0.0], [0.0, 0.0]], np.float32)
    actor, found = Net([(weight, None, IDENTITY, True)]), np.empty(len(pre_tanh), np.float32)
    observations = np.stack([pre_tanh, np.zeros_like(pre_tanh)], axis=1)
    actions = pre_tanh[:, None]
    engine.log_probs(actor.engine, workspace, (), observations, actions, None, found)
    return found


def test_the_logarithm_of_the_squashing_is_within_2e_6() -> None:
    """From log(1 + 1e-6) to log(1e-6): its own error, that of what it is of, and that of the sum."""
    grid = np.linspace(-12.0, 12.0, 100_003, dtype=np.float32)
    grid = np.concatenate([grid, np.array([0.0, 1e-40, 50.0, -50.0, 1e30, -1e30], np.float32)])
    # 1 - tanh^2, as the differences of large and nearly equal numbers would not be it.
    decayed = np.exp(-2.0 * np.abs(grid.astype(float)))
    expected = -0.5 * np.log(2.0 * np.pi) - np.log(4.0 * decayed / (1.0 + decayed) ** 2 + 1e-6)
    assert np.abs(squashed_log_probs(grid) - expected).max() <= 2e-6


def log_probs(actor: Net, counts: Sequence[int], *batch: Any) -> Array:
    observations, actions, masks = batch
    found = np.full(len(observations), 7.0, np.float32)
    engine.log_probs(actor.engine, workspace, counts, observations, actions, masks, found)
    return found


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize(
    "counts", [(1,), (2,), (7,), (40,), (3, 5), (2, 2, 2), (1, 17, 4)], ids=str
)
@pytest.mark.parametrize("rows", [1, 6, 700])
def test_log_probs_of_choices(rows: int, counts: tuple[int, ...], is_masked: bool) -> None:
    rng = np.random.default_rng(6)
    actor, observations = net(rng, 5, 16, sum(counts)), 3.0 * normal(rng, rows, 5)
    actions = np.stack([rng.integers(0, count, rows) for count in counts], axis=1)
    masks = random_masks(rng, counts, actions) if is_masked else None
    outputs = engine_oracle.Double(actor)(observations)
    expected, _ = engine_oracle.choices(outputs, actions, counts, masks)
    found = log_probs(actor, counts, observations, actions, masks)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    for i in range(0, rows, 97):
        one = slice(i, i + 1)
        of_masks = None if masks is None else masks[one]
        alone = log_probs(actor, counts, observations[one], actions[one], of_masks)
        assert alone.tobytes() == found[one].tobytes()


@pytest.mark.parametrize("size", [1, 2, 3, 6, 17])
@pytest.mark.parametrize("rows", [1, 6, 700])
def test_log_probs_of_squashed_gaussians(rows: int, size: int) -> None:
    """With logarithms of standard deviations within the limits, and beyond both."""
    rng = np.random.default_rng(7)
    actor, observations = net(rng, 5, 16, 2 * size), normal(rng, rows, 5)
    actor.layers[-1][0][size:] *= 6.0
    outputs = engine_oracle.Double(actor)(observations)
    mean, log_std = engine_oracle.gaussian_parameters(outputs)
    noise = normal(rng, rows, size)
    actions = (mean + np.exp(log_std) * noise).astype(np.float32)
    found = log_probs(actor, (), observations, actions, None)
    # The inverse of the least standard deviation is 148: the mean's rounding, 1e-7, is felt so.
    np.testing.assert_allclose(
        found,
        engine_oracle.squashed(outputs, actions.astype(float))[0],
        rtol=1e-4,
        atol=1e-4 * size,
    )
    assert rows * size < 1400 or (
        (outputs[:, size:] < -5.0).any() and (outputs[:, size:] > 2.0).any()
    )
