"""The network in NumPy: its gradients are those of its loss, and its steps go down."""

from __future__ import annotations

import numpy as np

from tensor_optix.exploration.small_network import SmallNetwork


def loss(network: SmallNetwork, inputs: np.ndarray, targets: np.ndarray) -> float:
    return float(np.square(network(inputs) - targets).mean())


def test_the_gradient_is_that_of_the_mean_squared_distance():
    """The first step of Adam moves every weight by the learning rate, against the sign of its gradient."""
    rng = np.random.default_rng(0)
    network = SmallNetwork((3, 5, 4, 2), rng)
    # In double precision, for differences small enough not to cross the kink of a ReLU.
    network._weights = [rng.normal(size=weight.shape) for weight in network._weights]
    inputs, targets = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
    before = [weight.copy() for weight in network._weights]
    numeric = []
    for weight in network._weights:
        slopes = np.zeros(weight.shape)
        for at in np.ndindex(weight.shape):
            kept = weight[at]
            weight[at] = kept + 1e-6
            above = loss(network, inputs, targets)
            weight[at] = kept - 1e-6
            slopes[at] = (above - loss(network, inputs, targets)) / 2e-6
            weight[at] = kept
        numeric.append(slopes)
    network.descend(inputs, targets, 0.125)
    for weight, old, slopes in zip(network._weights, before, numeric, strict=True):
        clear = np.abs(slopes) > 1e-2
        np.testing.assert_allclose(
            (weight - old)[clear], -0.125 * np.sign(slopes[clear]), rtol=1e-3
        )
    assert sum(int((np.abs(slopes) > 1e-2).sum()) for slopes in numeric) > 20


def test_it_learns_a_function():
    rng = np.random.default_rng(1)
    network = SmallNetwork((2, 16, 1), rng)
    inputs = rng.normal(size=(64, 2)).astype("f4")
    targets = np.abs(inputs[:, :1])
    before = loss(network, inputs, targets)
    for _ in range(300):
        network.descend(inputs, targets, 1e-2)
    assert loss(network, inputs, targets) < before / 50
