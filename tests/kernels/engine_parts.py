"""Perceptrons and optimizers of the engine, made of arrays that tests can look at.

Importing this skips the test module where the kernels have no engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.kernels import engine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

if not engine.has_engine:
    pytest.skip("the kernels have no engine", allow_module_level=True)

IDENTITY, TANH, RELU, ELU, SILU = range(5)
ACTIVATIONS = [IDENTITY, TANH, RELU, ELU, SILU]
ADAM, KERAS_ADAM, SGD = range(3)
UNLIMITED = float("inf")
RATE = 1024.0
"""Of gradient descent that shows gradients: see `gradients_of`."""


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, np.float32)


class Net:
    """Layers `(weight, bias, activation, is_by_outputs)` in float32, and the engine's view of them."""

    def __init__(self, layers: Sequence[tuple[Array, Array | None, int, bool]]) -> None:
        self.layers = list(layers)
        self.engine = engine.Perceptron(self.layers)
        self.arrays = [array for layer in layers for array in layer[:2] if array is not None]

    def clone(self) -> Net:
        return Net(
            [(w.copy(), None if b is None else b.copy(), a, o) for w, b, a, o in self.layers]
        )


def net(
    rng: np.random.Generator,
    *sizes: int,
    activation: int = TANH,
    last: int = IDENTITY,
    has_bias: bool = True,
    is_by_outputs: bool = True,
) -> Net:
    """Return a perceptron of these sizes, inputs first."""
    layers: list[tuple[Array, Array | None, int, bool]] = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        weight = normal(rng, inputs, outputs) / np.float32(np.sqrt(inputs))
        weight = np.ascontiguousarray(weight.T) if is_by_outputs else weight
        bias = 0.3 * normal(rng, outputs) if has_bias else None
        kind = last if i == len(sizes) - 2 else activation
        layers.append((weight, bias, kind, is_by_outputs))
    return Net(layers)


@dataclass
class Leaf:
    """A weight or a bias with the state that an optimizer has for it."""

    values: Array
    first: Array | None = None
    second: Array | None = None
    step: Array | None = None

    @property
    def parts(self) -> tuple[Array | None, ...]:
        return self.values, self.first, self.second, self.step


class Descent:
    """An optimizer of some arrays with its state, and the engine's view of it.

    `has_own_steps`: each array has its count of steps; else there is one for all.
    """

    def __init__(
        self,
        arrays: Sequence[Array],
        rule: int = SGD,
        rate: float = 1.0,
        beta1: float = 0.0,
        beta2: float = 0.0,
        epsilon: float = 0.0,
        decay: float = 0.0,
        is_decoupled: bool = False,
        is_nesterov: bool = False,
        has_own_steps: bool = True,
    ) -> None:
        is_adam = rule != SGD
        self.leaves = [
            Leaf(
                values,
                np.zeros_like(values) if is_adam or beta1 else None,
                np.zeros_like(values) if is_adam else None,
                np.zeros(1, np.float32) if is_adam and has_own_steps else None,
            )
            for values in arrays
        ]
        self.step = None if has_own_steps or not is_adam else np.zeros(1, np.int64)
        parts = [leaf.parts for leaf in self.leaves]
        self.engine = engine.Optimizer(rule, is_decoupled, is_nesterov, parts, self.step)
        self.engine.set(rate, beta1, beta2, epsilon, decay)

    @property
    def state(self) -> list[Array]:
        """Everything that a step changes."""
        parts = [part for leaf in self.leaves for part in leaf.parts]
        return [part for part in (*parts, self.step) if part is not None]


def descent(*nets: Net, **settings: Any) -> Descent:
    return Descent([array for one in nets for array in one.arrays], **settings)


def random_masks(rng: np.random.Generator, counts: Sequence[int], actions: Array) -> Array:
    """Return masks `[B, sum of counts]` that allow about half of all, and these actions `[B, K]`."""
    masks = rng.random((len(actions), sum(counts))) < 0.5
    begins = np.cumsum([0, *counts[:-1]])
    np.put_along_axis(masks, actions + begins, True, axis=1)
    return masks


def bits(arrays: Sequence[Array]) -> list[bytes]:
    return [array.tobytes() for array in arrays]


def gradients_of(arrays: Sequence[Array], call: Callable[[], Any]) -> list[Array]:
    """Return by how much a call of plain gradient descent at `RATE` moves these arrays, for a rate of 1.

    It is a power of 2, which changes no digit, and large: the rounding of weights is divided by it.
    """
    before = [array.astype(np.float64) for array in arrays]
    call()
    return [(old - new) / RATE for old, new in zip(before, arrays, strict=True)]


def assert_gradients(found: Sequence[Array], expected: Sequence[Array], most: float = 1e-5) -> None:
    """Relative to the largest of each array: where terms cancel out, float32 leaves no digits."""
    for of_engine, exact in zip(found, expected, strict=True):
        assert np.abs(of_engine - exact).max() <= most * np.abs(exact).max() + 1e-9
