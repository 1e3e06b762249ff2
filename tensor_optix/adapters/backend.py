"""What a framework must offer: one module of plain functions per framework, typed by this Protocol.

The maths of `algorithms/` takes such a module as `ops`. NumPy arrays come in and go out; tensors live
inside the compiled calls only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from tensor_optix.core.types import Array, PathLike

Tensor: TypeAlias = Any
Network: TypeAlias = Any
Optimizer: TypeAlias = Any
LossFn: TypeAlias = Callable[
    [Mapping[str, Tensor], Mapping[str, Tensor]], tuple[Tensor, dict[str, Tensor]]
]
"""`(minibatch, scalars) -> (loss, diagnostics)`, written over `ops`."""


class GradientDescent(Protocol):
    """Minimises one loss over named networks with the user's optimizer."""

    def run_epoch(
        self,
        fields: Mapping[str, Array],
        minibatch_size: int,
        max_grad_norm: float,
        scalars: Mapping[str, float],
    ) -> dict[str, float]:
        """Make one update per minibatch of consecutive rows; the last one may be short.

        An update whose gradient is not finite is left out, so that no weight ever becomes NaN.

        Args:
            fields: Arrays `[B, ...]`, already in random order.
            minibatch_size: Rows per update.
            max_grad_norm: The gradient's norm is clipped to this.
            scalars: Numbers that the loss uses and a tuner may change.

        Returns:
            The mean of each of the loss's diagnostics, and `n_updates`, `n_skipped_updates`.
        """


class Backend(Protocol):
    """The functions of a framework's backend module."""

    def exp(self, x: Tensor, /) -> Tensor:
        """Compute e**x."""

    def square(self, x: Tensor, /) -> Tensor:
        """Compute x**2."""

    def mean(self, x: Tensor, /) -> Tensor:
        """Average over all elements."""

    def minimum(self, x: Tensor, y: Tensor, /) -> Tensor:
        """Take the smaller of two, element by element."""

    def clip(self, x: Tensor, low: Tensor, high: Tensor, /) -> Tensor:
        """Limit to [low, high]."""

    def sum_last(self, x: Tensor, /) -> Tensor:
        """Sum over the last axis."""

    def log_softmax(self, logits: Tensor, /) -> Tensor:
        """Normalise `[B, A]` logits to log-probabilities."""

    def take_along(self, x: Tensor, index: Tensor, /) -> Tensor:
        """Pick `x[b, index[b]]`: `[B, A]`, `[B]` -> `[B]`."""

    def flatten_values(self, values: Tensor, /) -> Tensor:
        """Turn a critic's `[B, 1]` or `[B]` into `[B]`."""

    def network_input(self, observations: Tensor, /) -> Tensor:
        """Return observations as networks take them: float32, but indices `[B]` as int64."""

    def inference(
        self, fn: Callable[..., Tensor], networks: Sequence[Network], /
    ) -> Callable[..., Array]:
        """Return a function of tensors `[B, ...]` as one of arrays, without gradients, in chunks.

        `networks` are those that `fn` calls.
        """

    def gradient_descent(
        self, loss_fn: LossFn, networks: Mapping[str, Network], optimizer: Optimizer, /
    ) -> GradientDescent:
        """Bind a loss to the networks it trains and the user's optimizer.

        Raises:
            ValueError: If the optimizer does not hold exactly the networks' trainable parameters.
        """

    def learning_rate(self, optimizer: Optimizer, /) -> float:
        """Read the learning rate in force back from the optimizer."""

    def set_learning_rate(self, optimizer: Optimizer, value: float, /) -> None:
        """Put a learning rate in force: the first group's; other groups keep their ratio to it."""

    def save_network(self, network: Network, path: PathLike, /) -> None:
        """Write every variable of a network to `path` plus the backend's suffix."""

    def load_network(self, network: Network, path: PathLike, /) -> None:
        """Read what `save_network` wrote."""

    def save_optimizer(self, optimizer: Optimizer, path: PathLike, /) -> None:
        """Write the optimizer's state (moments, step counts) without pickle."""

    def load_optimizer(self, optimizer: Optimizer, path: PathLike, /) -> bool:
        """Read what `save_optimizer` wrote; False where there is nothing to read."""

    def average_networks(self, network: Network, paths: Sequence[PathLike], /) -> None:
        """Set a network to the mean of stored ones."""

    def perturb_network(self, network: Network, scale: float, seed: int, /) -> None:
        """Multiply every floating weight by `1 + scale * N(0, 1)`."""
