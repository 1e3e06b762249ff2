"""What stands before the layers of a native network: observations come in, rows of features go out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tensor_optix.adapters.backend import LARGEST_BYTE, OPEN, ByteField, first_divisors

if TYPE_CHECKING:
    from tensor_optix.core.types import Array


@dataclass(frozen=True)
class NativeFlatten:
    """Arrays `[B, ...]` as rows `[B, F]`, numbers `[B]` as `[B, 1]`."""

    def __call__(self, observations: Array) -> Array:
        """Return them, float32."""
        return np.asarray(observations, np.float32).reshape(len(observations), -1)


@dataclass(frozen=True)
class NativeOneHot:
    """K numbers for each of B, `[B]` or `[B, ...]`, as unit vectors side by side, `[B, sum(sizes)]`.

    They count from their starts on; the vectors of others are 0. Columns of a row that lie behind the K, as
    those of actions do, stay what they are.
    """

    sizes: tuple[int, ...]
    starts: tuple[int, ...]

    def __call__(self, observations: Array) -> Array:
        """Return them, float32."""
        rows = observations.reshape(len(observations), -1)
        count = len(self.sizes)
        ranges = [np.arange(n, n + size) for n, size in zip(self.starts, self.sizes, strict=True)]
        places = np.repeat(np.arange(count), self.sizes)
        is_hot = rows[:, places] == np.concatenate(ranges)
        return np.concatenate([is_hot.astype(np.float32), rows[:, count:]], 1, dtype=np.float32)


@dataclass
class NativeByteScale:
    """Bytes divided by what they are at most: an `adapters.backend.ByteScale`.

    Columns of a row that lie behind those of the fields, as those of actions do, stay what they are.
    """

    fields: tuple[ByteField, ...]
    sizes: tuple[int, ...] = field(init=False)
    divisors: Array = field(init=False, compare=False)
    """`[F]` int64."""

    def __post_init__(self) -> None:
        self.sizes = tuple(one.size for one in self.fields)
        self.divisors = np.array(first_divisors(self.fields), np.int64)

    def __call__(self, observations: Array) -> Array:
        """Return the quotients, `[B, D]` float32."""
        rows = np.array(observations, np.float32).reshape(len(observations), -1)
        known = np.where(self.divisors == OPEN, LARGEST_BYTE, self.divisors)
        rows[:, : sum(self.sizes)] /= np.repeat(known, self.sizes).astype(np.float32)
        return rows

    def read(self) -> Array:
        """Return the divisors `[F]` int64."""
        return self.divisors.copy()

    def write(self, divisors: Array) -> None:
        """Set the divisors."""
        self.divisors[:] = divisors


Encoding: TypeAlias = NativeFlatten | NativeOneHot | NativeByteScale
