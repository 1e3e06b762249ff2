"""What stands before the layers of a native network: observations come in, rows of features go out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tensor_optix.adapters.backend import LARGEST_BYTE, OPEN, ByteField, first_divisors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.types import Array


class NativeEncoding(ABC):
    """A step of observations to features, which the engine neither makes nor learns."""

    places = 1
    """How many modules it is in a Sequential of PyTorch, by whose numbers its variables are called."""

    @abstractmethod
    def __call__(self, observations: Array, /) -> Array:
        """Return what comes next."""

    def variables(self) -> dict[str, Array]:
        """Return what files keep of it, by the names that PyTorch gives it."""
        return {}


def variables_of(encodings: Sequence[NativeEncoding]) -> dict[str, Array]:
    """Return what files keep of encodings in order, by the names that PyTorch gives it in a Sequential."""
    found: dict[str, Array] = {}
    place = 0
    for one in encodings:
        found |= {f"{place}.{name}": array for name, array in one.variables().items()}
        place += one.places
    return found


@dataclass(frozen=True)
class NativeFlatten(NativeEncoding):
    """Arrays `[B, ...]` as rows `[B, F]`, numbers `[B]` as `[B, 1]`."""

    def __call__(self, observations: Array) -> Array:
        """Return them, float32."""
        return np.asarray(observations, np.float32).reshape(len(observations), -1)


@dataclass(frozen=True)
class NativeOneHot(NativeEncoding):
    """K numbers for each of B, `[B]` or `[B, ...]`, as unit vectors side by side, `[B, sum(sizes)]`.

    They count from their starts on; the vectors of others are 0. Columns of a row that lie behind the K, as
    those of actions do, stay what they are.
    """

    sizes: tuple[int, ...]
    starts: tuple[int, ...]

    def __call__(self, observations: Array) -> Array:
        """Return them, float32."""
        rows = observations.reshape(len(observations), -1)
        columns, numbers = self._places
        is_hot = rows[:, columns] == numbers
        others = rows[:, len(self.sizes) :]
        return np.concatenate([is_hot.astype(np.float32), others], 1, dtype=np.float32)

    @cached_property
    def _places(self) -> tuple[Array, Array]:
        """For each place of the vectors: the column that it is of, and the number that it stands for."""
        ranges = [np.arange(n, n + size) for n, size in zip(self.starts, self.sizes, strict=True)]
        return np.repeat(np.arange(len(self.sizes)), self.sizes), np.concatenate(ranges)


@dataclass
class NativeByteScale(NativeEncoding):
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
        """Return the quotients, float32, in the shape that they came in."""
        rows = np.array(observations, np.float32).reshape(len(observations), -1)
        known = np.where(self.divisors == OPEN, LARGEST_BYTE, self.divisors).astype(np.float32)
        rows[:, : sum(self.sizes)] /= known if len(known) == 1 else np.repeat(known, self.sizes)
        return rows.reshape(np.shape(observations))

    def read(self) -> Array:
        """Return the divisors `[F]` int64."""
        return self.divisors.copy()

    def write(self, divisors: Array) -> None:
        """Set the divisors."""
        self.divisors[:] = divisors

    def variables(self) -> dict[str, Array]:
        """Return the divisors."""
        return {"divisors": self.divisors}
