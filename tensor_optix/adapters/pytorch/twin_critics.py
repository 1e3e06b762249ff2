"""Two critics in one: networks of one shape come in, both their values come out of one batched pass."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tensor_optix.adapters.pytorch.gradient_descent import Leaf, leaves_of

if TYPE_CHECKING:
    from collections.abc import Callable

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.ELU, nn.SiLU, nn.GELU, nn.LeakyReLU, nn.Softplus, nn.Sigmoid)
"""Layers that work element by element and have no state, so that they take a batch of batches."""


class TorchTwinCritics(nn.Module):
    """The values `[2, B]` of two critics for observations `[B, ...]` and actions `[B, A]`.

    Perceptrons of one shape are stacked: each layer is one batched product for both. Their parameters then
    are views of the stacked ones and stay the user's: whatever changes the one changes the other.
    Measured on one CPU core, forward and backward of two 64-64 critics take 0.7 of the time of two
    passes. Other architectures are called one after the other.

    Args:
        first: Takes `[B, D + A]`, observation and action side by side; where observations are no
            vectors, the two as two arguments. Returns `[B, 1]` or `[B]`.
        second: Likewise.
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self._layers = _stacked_layers(first, second)
        stacks = [layer for layer in self._layers or [] if isinstance(layer, _StackedLinear)]
        self._stacked_leaves = [leaf for stack in stacks for leaf in stack.leaves]

    def __deepcopy__(self, memo: dict[int, Any]) -> TorchTwinCritics:
        """Return copies of the critics with storage of their own."""
        return TorchTwinCritics(copy.deepcopy(self.first, memo), copy.deepcopy(self.second, memo))

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return `[2, B]`."""
        if observations.dim() != 2:
            pair = (self.first(observations, actions), self.second(observations, actions))
            return torch.stack([values.reshape(-1) for values in pair])
        inputs = torch.cat([observations, actions], dim=-1)
        if self._layers is None:
            return torch.stack([self.first(inputs).reshape(-1), self.second(inputs).reshape(-1)])
        x = inputs.expand(2, *inputs.shape)
        for layer in self._layers:
            x = layer(x)
        return x.squeeze(-1)

    def leaves(self) -> list[Leaf]:
        """Return the tensors that are learned."""
        if self._layers is None:
            return [Leaf(p, (p,)) for p in self.parameters()]
        return self._stacked_leaves


leaves_of.register(TorchTwinCritics, TorchTwinCritics.leaves)


class _StackedLinear:
    """Two linear layers as one: `[2, B, in]` to `[2, B, out]`."""

    def __init__(self, first: nn.Linear, second: nn.Linear) -> None:
        # A bias is a parameter of its own: a layer has one or two.
        pairs = zip(first.parameters(), second.parameters(), strict=True)
        self.leaves = [_stack(*pair) for pair in pairs]

    def __call__(self, x: Tensor) -> Tensor:
        weights = self.leaves[0].tensor.transpose(1, 2)
        if len(self.leaves) == 1:
            return torch.bmm(x, weights)
        return torch.baddbmm(self.leaves[1].tensor.unsqueeze(1), x, weights)


def _stack(first: nn.Parameter, second: nn.Parameter) -> Leaf:
    """Move two parameters into one tensor `[2, ...]`, of which they become views."""
    stacked = torch.stack([first.detach(), second.detach()]).requires_grad_()
    for parameter, part in zip((first, second), stacked.detach(), strict=True):
        parameter.data = part
    return Leaf(stacked, (first, second))


def _stacked_layers(first: nn.Module, second: nn.Module) -> list[Callable[[Tensor], Tensor]] | None:
    """Return the layers of both networks, stacked; None if they are no perceptrons of one shape."""
    if type(first) is not nn.Sequential or type(second) is not nn.Sequential:
        return None
    if {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}:
        # One parameter cannot be two parts of a stack.
        return None
    pairs = list(zip(first, second, strict=False))
    if len(first) != len(second) or not all(_alike(*pair) for pair in pairs):
        return None
    return [
        _StackedLinear(a, b) if isinstance(a, nn.Linear) and isinstance(b, nn.Linear) else a
        for a, b in pairs
    ]


def _alike(first: nn.Module, second: nn.Module) -> bool:
    if type(first) is not type(second):
        return False
    if type(first) is nn.Linear:
        shapes = [(p.shape, p.dtype, p.device, p.requires_grad) for p in first.parameters()]
        return all(p.requires_grad for p in first.parameters()) and shapes == [
            (p.shape, p.dtype, p.device, p.requires_grad) for p in second.parameters()
        ]
    return type(first) in ACTIVATIONS and repr(first) == repr(second)
