"""Updates with consecutive minibatches on PyTorch: arrays come in and go out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tensor_optix.adapters.pytorch.compilation import FixedShapes
from tensor_optix.adapters.pytorch.placement import device_of, threads_for, to_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.adapters.backend import Update, UpdateLoop
    from tensor_optix.core.types import Array


def update_loop(update: Update, networks: Sequence[nn.Module], is_pure: bool = True) -> UpdateLoop:
    """Return a function that makes updates with consecutive minibatches; the last may be short."""
    device = device_of(networks[0])
    threads = threads_for(networks)

    def run(
        fields: Mapping[str, Array], minibatch_size: int, scalars: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, Array]]:
        tensors = {name: to_tensor(field, device) for name, field in fields.items()}
        constants = {name: torch.tensor(value) for name, value in scalars.items()}
        length = len(next(iter(tensors.values())))
        starts = range(0, length, minibatch_size)
        totals: dict[str, Tensor] = {}
        rows: dict[str, list[Tensor]] = {}
        with threads():
            for start in starts:
                kind = FixedShapes if is_pure and start + minibatch_size <= length else dict
                batch = kind((n, t[start : start + minibatch_size]) for n, t in tensors.items())
                diagnostics, outputs = update(batch, kind(constants))
                for name, value in diagnostics.items():
                    totals[name] = totals[name] + value if name in totals else value
                for name, value in outputs.items():
                    rows.setdefault(name, []).append(value)
        means = {name: float(total) / max(len(starts), 1) for name, total in totals.items()}
        return means, {name: torch.cat(parts).cpu().numpy() for name, parts in rows.items()}

    return run
