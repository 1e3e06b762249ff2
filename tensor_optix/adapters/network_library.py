"""What a framework must offer in ready-made networks: one module of plain functions, typed by this Protocol.

All networks are complete: they have their weights. These follow from a seed; no global random state is used
or changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.adapters.backend import Network, Optimizer


class Perceptron(Protocol):
    """A function that makes a perceptron."""

    def __call__(
        self,
        in_features: int,
        out_features: int,
        hidden: Sequence[int],
        seed: int,
        output_gain: float = 1.0,
    ) -> Network:
        """Return a network of `[B, in_features]` float32 to `[B, out_features]`."""


class NetworkLibrary(Protocol):
    """The functions of a framework's networks module."""

    @property
    def mlp(self) -> Perceptron:
        """Make one with tanh, orthogonal weights (Saxe et al. 2014) and zero biases."""

    @property
    def relu_mlp(self) -> Perceptron:
        """Make one with ReLU, weights and biases uniform in +-gain / sqrt(fan-in)."""

    def nature_cnn(
        self,
        image_shape: Sequence[int],
        out_features: int,
        hidden: Sequence[int],
        seed: int,
        output_gain: float = 1.0,
        divisor: float = 1.0,
    ) -> Network:
        """Return a network of `[B, *image_shape]` float32 to `[B, out_features]`."""

    def image_critic(
        self,
        image_shape: Sequence[int],
        action_dim: int,
        hidden: Sequence[int],
        seed: int,
        divisor: float = 1.0,
    ) -> Network:
        """Return a network of `[B, *image_shape]` and `[B, action_dim]` float32 to `[B, 1]`."""

    def number_critic(
        self, size: int, start: int, action_dim: int, hidden: Sequence[int], seed: int
    ) -> Network:
        """Return a network of numbers `[B]` int64 and actions `[B, action_dim]` to `[B, 1]`."""

    def of_numbers(self, network: Network, size: int, start: int) -> Network:
        """Put a one-hot code in front: numbers `[B]` int64 from `start` on, instead of `[B, size]`."""

    def adam(
        self, networks: Sequence[Network], learning_rate: float, epsilon: float = ...
    ) -> Optimizer:
        """Return Adam (Kingma and Ba 2015) for the weights of all networks."""

    def number_adam(self, learning_rate: float) -> Optimizer:
        """Return Adam for one number, such as log alpha."""
