"""Gradient descent on PyTorch: networks and the user's optimizer come in, updates go out.

Twin critics are here, too: as one batched pass they have learned tensors of their own.
"""

from __future__ import annotations

import copy
import logging
import math
from functools import singledispatch
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from tensor_optix.adapters.backend import given_instead

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tensor_optix.adapters.backend import LossFn

logger = logging.getLogger(__name__)


HOOKS = (
    *("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"),
    *("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"),
)
"""Where PyTorch keeps what users hang on modules and optimizers; it does not tell otherwise."""


def has_hooks(part: nn.Module | torch.optim.Optimizer) -> bool:
    """Return whether a module itself, or an optimizer, calls functions that were hung on it."""
    own = vars(part)
    return any(own.get(kind) for kind in HOOKS)


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
        optimizer: Holds exactly their trainable parameters; one that it lists twice, as networks share
            it, it lists once from now on. Adam and AdamW are switched to their fused form where the user
            left that choice open.

    Raises:
        TypeError: If the optimizer is none of PyTorch's.
        ValueError: If the optimizer misses a parameter, or holds one of another network.
    """

    def __init__(
        self, loss_fn: LossFn, networks: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
    ) -> None:
        _require_same_parameters(networks, optimizer)
        _list_once(optimizer, " and ".join(networks))
        self._loss_fn = loss_fn
        self._optimizer = optimizer
        self._gradients = FlatGradients(_groups(networks))
        _prefer_fused(optimizer)

    def step(self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make one update; diagnostics, `grad_norm` and `skipped` go out."""
        loss, outputs = self._backward(batch, scalars)
        max_norm = float(scalars["max_grad_norm"]) if "max_grad_norm" in scalars else math.inf
        norm = self._gradients.clip(max_norm)
        is_finite = math.isfinite(norm) and math.isfinite(float(loss.detach()))
        return outputs | {"grad_norm": torch.tensor(norm), "skipped": self._apply(is_finite)}

    def _backward(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the gradients; the loss and its diagnostics, detached, go out."""
        self._gradients.attach()
        loss, diagnostics = self._loss_fn(batch, scalars)
        # Named, so that networks which the loss merely runs through get no gradients.
        loss.backward(inputs=self._gradients.tensors)
        return loss, {name: value.detach() for name, value in diagnostics.items()}

    def _apply(self, is_finite: bool) -> Tensor:
        """Let the optimizer follow the gradients, if all is finite; return 1 if not, else 0."""
        if is_finite:
            self._optimizer.step()
        return torch.tensor(0.0 if is_finite else 1.0)


class FlatGradients:
    """The gradients of many leaves as views of a buffer per group: zeroing and clipping are one call each.

    Leaves of several dtypes or devices have a buffer for each; `names` has one name per buffer, and `groups`
    the buffers of each group, by number.
    """

    def __init__(self, groups: Sequence[Sequence[Leaf]]) -> None:
        leaves = [leaf for group in groups for leaf in group]
        group_of = [number for number, group in enumerate(groups) for _ in group]
        self.tensors = [leaf.tensor for leaf in leaves]
        self.groups: list[list[int]] = [[] for _ in groups]
        self._buffers: list[Tensor] = []
        self._members: list[list[int]] = []
        self._views: list[tuple[Tensor, Tensor]] = []
        kinds = [(n, t.dtype, t.device) for n, t in zip(group_of, self.tensors, strict=True)]
        for kind in dict.fromkeys(kinds):
            indices = [index for index, other in enumerate(kinds) if other == kind]
            group, dtype, device = kind
            sizes = [self.tensors[index].numel() for index in indices]
            buffer = torch.zeros(sum(sizes), dtype=dtype, device=device)
            for index, part in zip(indices, torch.split(buffer, sizes), strict=True):
                self._views += _views(leaves[index], _laid_out_as(self.tensors[index], part))
            self.groups[group].append(len(self._buffers))
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
            torch.cat(
                [_in_memory_order(self.tensors[i], gradients[i]).reshape(-1) for i in indices]
            )
            for indices in self._members
        ]

    def assign(self, flat: Sequence[Tensor]) -> None:
        """Let the gradients be the views, whatever they were, with the values that `flatten` gave."""
        for tensor, view in self._views:
            tensor.grad = view
        for buffer, values in zip(self._buffers, flat, strict=True):
            buffer.copy_(values)

    def clip(self, max_norm: float) -> float:
        """Scale the gradients of each group down to `max_norm`, if they are finite; return the norm of all.

        It is that before.
        """
        squares = [float(torch.linalg.vector_norm(buffer)) ** 2 for buffer in self._buffers]
        for group in self.groups:
            norm = math.sqrt(sum(squares[number] for number in group))
            if math.isfinite(norm) and norm > max_norm:
                for number in group:
                    self._buffers[number].mul_(max_norm / norm)
        return math.sqrt(sum(squares))

    def clip_there(self, max_norm: Tensor | None) -> Tensor:
        """Do as `clip` does, where the gradients are: norms are computed there, and nobody waits for them."""
        norms = [torch.linalg.vector_norm(buffer).double() for buffer in self._buffers]
        squares = [norm * norm for norm in norms]
        if max_norm is not None:
            most = max_norm.double()
            for group in self.groups:
                norm = torch.sqrt(_sum([squares[number] for number in group]))
                is_longer = torch.isfinite(norm) & (norm > most)
                scale = torch.where(is_longer, most / norm, torch.ones_like(norm))
                for number in group:
                    self._buffers[number].mul_(scale)
        return torch.sqrt(_sum(squares))


def _sum(tensors: Sequence[Tensor]) -> Tensor:
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total


def _groups(networks: Mapping[str, nn.Module]) -> list[list[Leaf]]:
    """Return the leaves that are learned, each once: by network, and those of several apart."""
    leaves: dict[int, Leaf] = {}
    owners: dict[int, tuple[str, ...]] = {}
    for name, network in networks.items():
        for leaf in leaves_of(network):
            if leaf.tensor.requires_grad:
                leaves[id(leaf.tensor)] = leaf
                owners[id(leaf.tensor)] = (*owners.get(id(leaf.tensor), ()), name)
    groups: dict[tuple[str, ...], list[Leaf]] = {}
    for key, leaf in leaves.items():
        groups.setdefault(owners[key], []).append(leaf)
    return list(groups.values())


def _axes(tensor: Tensor) -> list[int]:
    """Return the axes of a tensor in the order of its memory, as channels-last ones are not in their own."""
    strides = tensor.stride()
    return sorted(range(len(strides)), key=lambda axis: -strides[axis])


def _in_memory_order(tensor: Tensor, gradient: Tensor) -> Tensor:
    """Return a tensor's gradient with its axes in the order of the tensor's memory."""
    axes = _axes(tensor)
    return gradient if axes == sorted(axes) else gradient.permute(axes)


def _laid_out_as(tensor: Tensor, part: Tensor) -> Tensor:
    """Return a view of numbers side by side in the shape of a tensor, in the order of its memory.

    Fused optimizers go through both as they lie.
    """
    axes = _axes(tensor)
    ordered = part.view([tensor.shape[axis] for axis in axes])
    return ordered.permute([axes.index(axis) for axis in range(tensor.dim())])


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


def _list_once(optimizer: torch.optim.Optimizer, of: str) -> None:
    """Strike what an optimizer lists again: it would take every step as often."""
    seen: set[int] = set()
    again = 0
    for group in optimizer.param_groups:
        listed = {id(p): p for p in group["params"] if id(p) not in seen}
        again += len(group["params"]) - len(listed)
        group["params"] = list(listed.values())
        seen |= listed.keys()
    if again:
        logger.warning(
            "the optimizer of %s listed %d parameters twice, as networks share them: each takes one step",
            of,
            again,
        )


def require_optimizer(optimizer: object, of: str) -> None:
    """Raise TypeError for what is no optimizer; `of` names what it is to minimise over."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"the optimizer of {of} must be a torch.optim.Optimizer, got {given_instead(optimizer)}"
        )


def require_network(name: str, network: object) -> None:
    """Raise TypeError for what is no network of PyTorch's; `name` is what the agent calls it."""
    if not isinstance(network, nn.Module):
        raise TypeError(
            f"the {name} must be a torch.nn.Module, for example nn.Sequential(...), got "
            f"{given_instead(network)}"
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
