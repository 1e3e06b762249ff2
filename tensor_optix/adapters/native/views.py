"""What the engine reads of a framework's networks and optimizers: NumPy arrays that are their own memory.

A framework's objects come in through `PerceptronSource` and `OptimizerSource`; the engine's own go out, made
anew wherever that memory has moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from tensor_optix.kernels import engine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensor_optix.core.types import Array


class NotNative(Exception):
    """Raised for what the engine does not do; the message says what that is."""


class Activation(IntEnum):
    """What follows a layer, as the engine counts."""

    IDENTITY = 0
    TANH = 1
    RELU = 2
    ELU = 3
    SILU = 4


class Rule(IntEnum):
    """How an optimizer steps, as the engine counts."""

    ADAM = 0
    """PyTorch's: epsilon beside the corrected root of the mean of squares."""
    KERAS_ADAM = 1
    """Keras's: epsilon beside the root as it is."""
    SGD = 2


class DenseView(NamedTuple):
    """A layer's memory."""

    weight: Array
    """float32, `[outputs, inputs]` if `is_by_outputs`, else `[inputs, outputs]`."""
    bias: Array | None
    """`[outputs]`."""
    activation: Activation
    is_by_outputs: bool


class LeafView(NamedTuple):
    """The memory of a weight or a bias, and of an optimizer's state for it."""

    values: Array
    first: Array | None
    """The mean of gradients, or SGD's momentum."""
    second: Array | None
    """The mean of their squares."""
    step: Array | None
    """float32 `[1]`: steps made; None: one count serves all."""


@dataclass(frozen=True)
class OptimizerSettings:
    """The numbers of an optimizer, as they are now."""

    rate: float
    beta1: float = 0.0
    """SGD: momentum."""
    beta2: float = 0.0
    epsilon: float = 0.0
    decay: float = 0.0
    """Of weights."""


class PerceptronSource(Protocol):
    """A perceptron of a framework. Its methods raise NotNative where it has become something else."""

    flattens: bool
    """Whether it makes rows `[B, D]` of whatever comes, `[B, ...]`."""

    @property
    def encoding(self) -> Sequence[Callable[[Array], Array]]:
        """What observations go through before the layers, in order; equal ones do the same."""

    def places(self) -> tuple[int, ...]:
        """Return the addresses of its memory."""

    def layers(self) -> Sequence[DenseView]:
        """Return its layers in order."""


class OptimizerSource(Protocol):
    """An optimizer of a framework that holds the weights of some perceptrons, or one number.

    Its methods raise NotNative where it has become something else.
    """

    rule: Rule
    is_decoupled: bool
    """Whether its decay of weights is AdamW's."""
    is_nesterov: bool
    step: Array | None
    """int64 `[1]`: the count of steps of all leaves; None: each has its own."""

    def places(self) -> tuple[int, ...]:
        """Return the addresses of its memory."""

    def settings(self) -> OptimizerSettings:
        """Return its numbers as they are now; steps by them follow."""

    def leaves(self) -> Sequence[LeafView]:
        """Return the weight and the bias of each layer, in the order of the perceptrons."""


class BoundPerceptron:
    """A framework's perceptron as the engine takes it."""

    inputs: int
    """How many numbers it takes a row."""
    outputs: int
    """How many it returns."""

    def __init__(self, source: PerceptronSource) -> None:
        self._source = source
        self._places: tuple[int, ...] | None = None
        self._bound: Any = None
        layers = source.layers()
        first, last = layers[0], layers[-1]
        self.inputs = first.weight.shape[1 if first.is_by_outputs else 0]
        self.outputs = last.weight.shape[0 if last.is_by_outputs else 1]

    def rows(self, observations: Array) -> Array:
        """Return observations as it takes them, float32 `[B, inputs]`.

        Raises:
            ValueError: If they are of another size.
        """
        for encode in self._source.encoding:
            observations = encode(observations)
        rows = np.ascontiguousarray(observations, np.float32)
        if rows.ndim != 2 and self._source.flattens:
            rows = rows.reshape(len(rows), -1)
        if rows.ndim != 2 or rows.shape[1] != self.inputs:
            raise ValueError(
                f"the network takes {self.inputs} numbers a row, got rows of shape {rows.shape[1:]}"
            )
        return rows

    def require_same_sight(self, name: str, other: BoundPerceptron) -> None:
        """Refuse another network, of some name, that sees observations otherwise than this one.

        Raises:
            NotNative: If it does.
        """
        if list(self._source.encoding) != list(other._source.encoding):
            raise NotNative(f"the {name} encodes observations otherwise than the actor")

    def engine(self) -> Any:
        """Return the engine's, of the memory that the weights are in now.

        Raises:
            NotNative: If it is no perceptron any more.
        """
        places = self._source.places()
        if places != self._places:
            self._bound = engine.Perceptron([tuple(one) for one in self._source.layers()])
            self._places = places
        return self._bound


class BoundOptimizer:
    """A framework's optimizer as the engine takes it."""

    leaves: Sequence[LeafView]
    """What it moved last."""

    def __init__(self, source: OptimizerSource) -> None:
        self._source = source
        self._places: tuple[int, ...] | None = None
        self._bound: Any = None

    def engine(self) -> Any:
        """Return the engine's, with the settings of now.

        Raises:
            NotNative: If the engine does not know it any more.
        """
        source = self._source
        places = source.places()
        if places != self._places:
            self.leaves = source.leaves()
            self._bound = engine.Optimizer(
                int(source.rule),
                source.is_decoupled,
                source.is_nesterov,
                [tuple(leaf) for leaf in self.leaves],
                source.step,
            )
            self._places = places
        now = source.settings()
        self._bound.set(now.rate, now.beta1, now.beta2, now.epsilon, now.decay)
        return self._bound
