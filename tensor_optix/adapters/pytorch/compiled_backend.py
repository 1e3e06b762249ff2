"""PyTorch as a backend whose updates are compiled: forward, loss, backward and clipping are one call.

The optimizer's step stays the user's own optimizer's. On one CPU core, an update of two 64-64 perceptrons
takes a third of the time; compiling takes seconds per loss, and a C++ compiler.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from tensor_optix.adapters.backend import Backend
from tensor_optix.adapters.pytorch import backend
from tensor_optix.adapters.pytorch.compilation import CompiledFunction, Compiler, FixedShapes
from tensor_optix.adapters.pytorch.gradient_descent import TorchGradientDescent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tensor_optix.adapters.backend import LossFn


def compiled_backend() -> Backend:
    """Return the functions of the backend, those of updates compiled; to be called for each agent."""
    compiler = Compiler()

    def gradient_descent(
        loss_fn: LossFn, networks: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
    ) -> CompiledGradientDescent:
        return CompiledGradientDescent(loss_fn, networks, optimizer, compiler)

    def without_gradient(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return _compiled_without_gradient(fn, compiler)

    names = [name for name in vars(Backend) if not name.startswith("_")]
    functions = {name: getattr(backend, name) for name in names}
    functions |= {"gradient_descent": gradient_descent, "without_gradient": without_gradient}
    return cast("Backend", SimpleNamespace(**functions))


class CompiledGradientDescent(TorchGradientDescent):
    """Gradient descent whose gradients are one compiled call, for whole minibatches.

    A short minibatch, whose size may be another every time, is an eager update. So is every one where
    compiling fails.

    Args:
        loss_fn: As for `TorchGradientDescent`, and so are `networks` and `optimizer`.
        networks: By the names that errors call them.
        optimizer: Holds exactly their trainable parameters.
        compiler: Of all updates that belong together.
    """

    def __init__(
        self,
        loss_fn: LossFn,
        networks: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        compiler: Compiler,
    ) -> None:
        super().__init__(loss_fn, networks, optimizer)
        self._compiled = CompiledFunction(self._clipped_gradients, compiler)

    def step(self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make one update; diagnostics, `grad_norm` and `skipped` go out."""
        outputs = self._compiled(batch, scalars) if isinstance(scalars, FixedShapes) else None
        if outputs is None:
            return super().step(batch, scalars)
        self._gradients.assign([outputs.pop(name) for name in self._gradients.names])
        return outputs | {"skipped": self._apply(bool(outputs.pop("is_finite")))}

    def _clipped_gradients(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute the gradients, scaled down to the largest norm allowed, and the diagnostics."""
        leaves = self._gradients.tensors
        loss, diagnostics = self._loss_fn(batch, scalars)
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        flat = self._gradients.flatten(gradients)
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(f) for f in flat]))
        if "max_grad_norm" in scalars:
            most = scalars["max_grad_norm"]
            scale = torch.where(norm > most, most / norm, 1.0)
            flat = [gradient * scale for gradient in flat]
        named = dict(zip(self._gradients.names, flat, strict=True))
        is_finite = torch.isfinite(norm) & torch.isfinite(loss)
        return {**diagnostics, **named, "grad_norm": norm, "is_finite": is_finite}


def _compiled_without_gradient(
    fn: Callable[..., Tensor], compiler: Compiler
) -> Callable[..., Tensor]:
    eager = backend.without_gradient(fn)
    compiled = CompiledFunction(lambda batch: {"result": eager(batch)}, compiler)

    def call(batch: Mapping[str, Tensor]) -> Any:
        outputs = compiled(batch) if isinstance(batch, FixedShapes) else None
        return eager(batch) if outputs is None else outputs["result"]

    return call
