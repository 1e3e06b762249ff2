"""Updates with consecutive minibatches on PyTorch: arrays come in and go out."""

from __future__ import annotations

import math
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
        sums = _Sums()
        rows: dict[str, list[Tensor]] = {}
        with threads():
            for start in starts:
                kind = FixedShapes if is_pure and start + minibatch_size <= length else dict
                batch = kind((n, t[start : start + minibatch_size]) for n, t in tensors.items())
                diagnostics, outputs = update(batch, kind(constants))
                sums.add(diagnostics)
                for name, value in outputs.items():
                    rows.setdefault(name, []).append(value)
        outputs = {name: torch.cat(parts).cpu().numpy() for name, parts in rows.items()}
        return sums.means(), outputs

    return run


class _Sums:
    """Sums of diagnostics over the updates that were made; those left out are counted only."""

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}
        self._updates = self._skipped = 0

    def add(self, diagnostics: Mapping[str, Tensor]) -> None:
        """Add those of one update."""
        is_skipped = bool(diagnostics.get("skipped", False))
        self._updates += 1
        self._skipped += is_skipped
        for name, value in diagnostics.items():
            counted = torch.zeros_like(value) if is_skipped else value
            self._totals[name] = self._totals[name] + counted if name in self._totals else counted

    def means(self) -> dict[str, float]:
        """Return the means: NaN where no update was made, but of `skipped` the share left out."""
        made = self._updates - self._skipped
        means = {n: float(total) / made if made else math.nan for n, total in self._totals.items()}
        if "skipped" in means:
            means["skipped"] = self._skipped / self._updates
        return means
