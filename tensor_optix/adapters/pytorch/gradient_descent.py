"""Gradient descent on PyTorch: backward pass, clipping and the user's optimizer, minibatch by minibatch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tensor_optix.adapters.pytorch.placement import device_of, threads_for, to_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.adapters.backend import LossFn
    from tensor_optix.core.types import Array


class TorchGradientDescent:
    """Minimises one loss over named networks with the user's optimizer.

    Args:
        loss_fn: `(minibatch, scalars) -> (loss, diagnostics)`.
        networks: By the names that errors call them.
        optimizer: Holds exactly their trainable parameters. Adam and AdamW are switched to their fused
            form where the user left that choice open.

    Raises:
        ValueError: If the optimizer misses a parameter, or holds one of another network.
    """

    def __init__(
        self, loss_fn: LossFn, networks: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
    ) -> None:
        _require_same_parameters(networks, optimizer)
        self._loss_fn = loss_fn
        self._optimizer = optimizer
        self._gradients = _FlatGradients(
            [p for p in _parameters(networks).values() if p.requires_grad]
        )
        self._device = device_of(next(iter(networks.values())))
        self._threads = threads_for(list(networks.values()))
        _prefer_fused(optimizer)

    def run_epoch(
        self,
        fields: Mapping[str, Array],
        minibatch_size: int,
        max_grad_norm: float,
        scalars: Mapping[str, float],
    ) -> dict[str, float]:
        """Make one update per minibatch of consecutive rows; the last one may be short."""
        tensors = {name: to_tensor(field, self._device) for name, field in fields.items()}
        constants = {name: torch.tensor(value) for name, value in scalars.items()}
        length = len(next(iter(tensors.values())))
        totals: dict[str, Tensor] = {}
        skipped = 0
        self._gradients.attach()
        starts = range(0, length, minibatch_size)
        with self._threads():
            for start in starts:
                batch = {name: t[start : start + minibatch_size] for name, t in tensors.items()}
                loss, diagnostics = self._loss_fn(batch, constants)
                skipped += not self._step(loss, max_grad_norm)
                for name, value in diagnostics.items():
                    totals[name] = (
                        totals[name] + value.detach() if name in totals else value.detach()
                    )
        updates = len(starts)
        means = {name: float(total) / max(updates, 1) for name, total in totals.items()}
        return means | {"n_updates": updates - skipped, "n_skipped_updates": skipped}

    def _step(self, loss: Tensor, max_grad_norm: float) -> bool:
        self._gradients.zero()
        loss.backward()  # type: ignore[no-untyped-call]
        if not self._gradients.clip(max_grad_norm):
            return False
        self._optimizer.step()
        return True


class _FlatGradients:
    """The gradients of many parameters as views of one buffer: zeroing and clipping are one call each."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        kinds = {(p.dtype, p.device) for p in parameters}
        self._buffers = []
        self._views: list[tuple[nn.Parameter, Tensor]] = []
        for dtype, device in kinds:
            members = [p for p in parameters if (p.dtype, p.device) == (dtype, device)]
            sizes = [p.numel() for p in members]
            buffer = torch.zeros(sum(sizes), dtype=dtype, device=device)
            parts = torch.split(buffer, sizes)
            self._views += [(p, part.view_as(p)) for p, part in zip(members, parts, strict=True)]
            self._buffers.append(buffer)

    def attach(self) -> None:
        """Let the parameters' gradients be the views, whatever they were."""
        for parameter, view in self._views:
            parameter.grad = view

    def zero(self) -> None:
        """Forget the gradients."""
        for buffer in self._buffers:
            buffer.zero_()

    def clip(self, max_norm: float) -> bool:
        """Scale the gradients down to `max_norm`; return whether they are finite."""
        norm = math.sqrt(sum(float(torch.linalg.vector_norm(b)) ** 2 for b in self._buffers))
        if not math.isfinite(norm):
            return False
        if norm > max_norm:
            for buffer in self._buffers:
                buffer.mul_(max_norm / norm)
        return True


def _parameters(networks: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    named: dict[str, nn.Parameter] = {}
    for prefix, network in networks.items():
        named |= {f"{prefix}.{name}": p for name, p in network.named_parameters()}
    return named


def _require_same_parameters(
    networks: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> None:
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


def _prefer_fused(optimizer: torch.optim.Optimizer) -> None:
    """Choose the one-kernel form of Adam, where the user left that choice open."""
    if not isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW) or optimizer.state:
        return
    for group in optimizer.param_groups:
        plain = not (group["foreach"] or group["capturable"] or group["differentiable"])
        floating = all(p.is_floating_point() for p in group["params"])
        if group["fused"] is None and plain and floating:
            group["fused"] = True
