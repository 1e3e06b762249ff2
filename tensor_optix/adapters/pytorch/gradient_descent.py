"""Gradient descent on PyTorch: backward pass, clipping and the user's optimizer."""

from __future__ import annotations

import math
from functools import singledispatch
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.adapters.backend import LossFn


class Leaf(NamedTuple):
    """A tensor that is learned, and the parameters that it holds side by side."""

    tensor: Tensor
    parameters: tuple[nn.Parameter, ...]


@singledispatch
def leaves_of(network: nn.Module) -> list[Leaf]:
    """Return the tensors of a network that are learned: its parameters; other kinds register their own."""
    return [Leaf(parameter, (parameter,)) for parameter in network.parameters()]


class TorchGradientDescent:
    """Minimises one loss over named networks with the user's optimizer.

    Args:
        loss_fn: `(minibatch, scalars) -> (loss, diagnostics)`.
        networks: By the names that errors call them.
        optimizer: Holds exactly their trainable parameters. Adam and AdamW are switched to their fused
            form where the user left that choice open.

    Raises:
        TypeError: If the optimizer is none of PyTorch's.
        ValueError: If the optimizer misses a parameter, or holds one of another network.
    """

    def __init__(
        self, loss_fn: LossFn, networks: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
    ) -> None:
        _require_same_parameters(networks, optimizer)
        self._loss_fn = loss_fn
        self._optimizer = optimizer
        leaves = [leaf for network in networks.values() for leaf in leaves_of(network)]
        self._gradients = FlatGradients([leaf for leaf in leaves if leaf.tensor.requires_grad])
        _prefer_fused(optimizer)

    def step(self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make one update; diagnostics, `grad_norm` and `skipped` go out."""
        self._gradients.attach()
        loss, diagnostics = self._loss_fn(batch, scalars)
        # Named, so that networks which the loss merely runs through get no gradients.
        loss.backward(inputs=self._gradients.tensors)
        max_norm = float(scalars["max_grad_norm"]) if "max_grad_norm" in scalars else math.inf
        norm = self._gradients.clip(max_norm)
        is_finite = math.isfinite(norm) and math.isfinite(float(loss.detach()))
        outputs = {name: value.detach() for name, value in diagnostics.items()}
        return outputs | {"grad_norm": torch.tensor(norm), "skipped": self._apply(is_finite)}

    def _apply(self, is_finite: bool) -> Tensor:
        """Let the optimizer follow the gradients, if all is finite; return 1 if not, else 0."""
        if is_finite:
            self._optimizer.step()
        return torch.tensor(0.0 if is_finite else 1.0)


class FlatGradients:
    """The gradients of many leaves as views of one buffer: zeroing and clipping are one call each.

    Leaves of several dtypes or devices have a buffer for each; `names` has one name per buffer.
    """

    def __init__(self, leaves: Sequence[Leaf]) -> None:
        self.tensors = [leaf.tensor for leaf in leaves]
        self._buffers: list[Tensor] = []
        self._members: list[list[int]] = []
        self._views: list[tuple[Tensor, Tensor]] = []
        for dtype, device in dict.fromkeys((t.dtype, t.device) for t in self.tensors):
            indices = [i for i, leaf in enumerate(leaves) if _kind(leaf) == (dtype, device)]
            members = [leaves[i] for i in indices]
            sizes = [leaf.tensor.numel() for leaf in members]
            buffer = torch.zeros(sum(sizes), dtype=dtype, device=device)
            for leaf, part in zip(members, torch.split(buffer, sizes), strict=True):
                self._views += _views(leaf, part.view_as(leaf.tensor))
            self._buffers.append(buffer)
            self._members.append(indices)
        self.names = [f"gradients {number}" for number in range(len(self._buffers))]

    def attach(self) -> None:
        """Let the gradients be the views, whatever they were, and forget their values."""
        for tensor, view in self._views:
            tensor.grad = view
        for buffer in self._buffers:
            buffer.zero_()

    def flatten(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Return the leaves' gradients in the order of the buffers, each `[number of its elements]`."""
        return [
            torch.cat([gradients[index].reshape(-1) for index in indices])
            for indices in self._members
        ]

    def assign(self, flat: Sequence[Tensor]) -> None:
        """Let the gradients be the views, whatever they were, with the values that `flatten` gave."""
        for tensor, view in self._views:
            tensor.grad = view
        for buffer, values in zip(self._buffers, flat, strict=True):
            buffer.copy_(values)

    def clip(self, max_norm: float) -> float:
        """Scale the gradients down to `max_norm`, if they are finite; return the norm before."""
        norm = math.sqrt(sum(float(torch.linalg.vector_norm(b)) ** 2 for b in self._buffers))
        if math.isfinite(norm) and norm > max_norm:
            for buffer in self._buffers:
                buffer.mul_(max_norm / norm)
        return norm


def _kind(leaf: Leaf) -> tuple[torch.dtype, torch.device]:
    return leaf.tensor.dtype, leaf.tensor.device


def _views(leaf: Leaf, gradient: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return what gets which part of a leaf's gradient: the leaf, and the parameters it holds."""
    pairs: list[tuple[Tensor, Tensor]] = [(leaf.tensor, gradient)]
    if len(leaf.parameters) > 1:
        pairs += list(zip(leaf.parameters, gradient, strict=True))
    return pairs


def _parameters(networks: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    named: dict[str, nn.Parameter] = {}
    for prefix, network in networks.items():
        named |= {f"{prefix}.{name}": p for name, p in network.named_parameters()}
    return named


def _require_same_parameters(
    networks: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> None:
    require_optimizer(optimizer, " and ".join(networks))
    named = _parameters(networks)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    missing = [name for name, p in named.items() if p.requires_grad and id(p) not in held]
    if missing:
        raise ValueError(
            f"optimizer must hold every parameter of {' and '.join(networks)}, but misses "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}; build it from "
            f"{' + '.join(f'list({name}.parameters())' for name in networks)}"
        )
    known = {id(p) for p in named.values()}
    if any(p not in known for p in held):
        raise ValueError(
            f"optimizer holds parameters that belong to neither {' nor '.join(networks)}"
        )


def require_optimizer(optimizer: object, of: str) -> None:
    """Raise TypeError for what is no optimizer; `of` names what it is to minimise over."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"the optimizer of {of} must be a torch.optim.Optimizer, got {type(optimizer).__name__}"
        )


def _prefer_fused(optimizer: torch.optim.Optimizer) -> None:
    """Choose the one-kernel form of Adam, where the user left that choice open."""
    if not isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW) or optimizer.state:
        return
    for group in optimizer.param_groups:
        plain = not (group["foreach"] or group["capturable"] or group["differentiable"])
        floating = all(p.is_floating_point() for p in group["params"])
        if group["fused"] is None and plain and floating:
            group["fused"] = True
