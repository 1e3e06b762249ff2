"""Means of diagnostics over many updates: those of update loops come in, what `learn` returns goes out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class UpdateTally:
    """Adds up what update loops return. An update that was left out counts for nothing but its number."""

    def __init__(self) -> None:
        self._totals: dict[str, float] = {}
        self._updates = self._skipped = 0

    def add(self, means: Mapping[str, float], updates: int) -> None:
        """Add what an `adapters.backend.UpdateLoop` returned of so many updates."""
        skipped = round(means["skipped"] * updates)
        made = updates - skipped
        for name, mean in means.items():
            if name != "skipped":
                self._totals[name] = self._totals.get(name, 0.0) + (mean * made if made else 0.0)
        self._updates += updates
        self._skipped += skipped

    def means(self) -> dict[str, float]:
        """Return the means in the form that `add` takes: NaN, where updates came but none was made."""
        made = self._updates - self._skipped
        means = {n: total / made if made else math.nan for n, total in self._totals.items()}
        return means | ({"skipped": self._skipped / self._updates} if self._updates else {})

    def take(self) -> dict[str, Any]:
        """Return the means, and how many updates were made and left out; begin anew."""
        means, updates, skipped = self.means(), self._updates, self._skipped
        self._totals, self._updates, self._skipped = {}, 0, 0
        means.pop("skipped", None)
        return means | {"n_updates": updates - skipped, "n_skipped_updates": skipped}
