"""What the experimenting optimizers try, what they read, and when a new point has stood its test."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tensor_optix.optimizers.experiment import BLOCK, Evidence

if TYPE_CHECKING:
    from tensor_optix.core.types import Array

_TEST_BLOCKS = 3
_TEST_Z = 1.0
_KEEP_Z = 4.0
_HOPELESS_Z = 0.0


@dataclass(frozen=True)
class Reading:
    """What one window answered."""

    score: float
    point: Array
    """`[D]`, the point of the unit cube that was in force."""
    values: dict[str, Any]
    """The tuned hyperparameters that were in force."""


@dataclass(frozen=True)
class Comparison:
    """The outcome of an experiment."""

    evidence: Evidence
    unit: float
    """What its difference is measured in: see `Experiment.unit`."""
    first: Reading
    """The first side as it was last in force."""
    second: Reading

    @property
    def slopes(self) -> Array:
        """`[D]`, the difference in `unit`s over the distance of the sides; 0 where they are the same."""
        apart = self.first.point - self.second.point
        slopes = np.zeros(len(apart))
        np.divide(self.evidence.difference / self.unit, apart, out=slopes, where=apart != 0.0)
        return slopes


Trial: TypeAlias = "Array | None"
"""A point `[D]` to try; None: the base."""
Cycle: TypeAlias = Generator[Trial, Reading, bool]
"""A sequence of trials; returns whether it moved the base."""


class Reach:
    """How far a probe is from the base, as a share of the range.

    Args:
        usual: To begin with.
        smallest: However many improvements there are.
        largest: However long a plateau lasts.
    """

    def __init__(self, usual: float, smallest: float, largest: float) -> None:
        self.size = usual
        self._usual = usual
        self._smallest = smallest
        self._largest = max(largest, usual)

    def shrink(self) -> None:
        """Take off a fifth."""
        self.size = max(0.8 * self.size, self._smallest)

    def begin_plateau(self) -> None:
        """Double it, up to the largest."""
        self.size = max(self.size, min(2.0 * self.size, self._largest))

    def widen(self, in_plateau: bool) -> None:
        """Restore what is usual after probes that showed nothing; in a plateau, double it at least.

        Many improvements make it so small that noise drowns every probe; doubling would take
        as many cycles to undo that.
        """
        if in_plateau:
            self.begin_plateau()
        self.size = max(self.size, self._usual)


def stands(evidence: Evidence, earlier: Evidence | None) -> bool:
    """Whether a point has beaten the base: by itself, and with the evidence that proposed it."""
    return evidence.z > _TEST_Z and _z_together(evidence, earlier) > _KEEP_Z


def is_open(evidence: Evidence, earlier: Evidence | None) -> bool:
    """Whether another block could change the verdict on a point."""
    blocks = _TEST_BLOCKS if earlier else _TEST_BLOCKS + 1
    if evidence.windows >= blocks * BLOCK or evidence.z <= _HOPELESS_Z:
        return False
    return not stands(evidence, earlier)


def _z_together(evidence: Evidence, earlier: Evidence | None) -> float:
    return evidence.z if earlier is None else evidence.z_after(earlier)
