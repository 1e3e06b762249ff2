"""The sum tree: leaves are set by index, batches of them are drawn in proportion to their values.

All state lies in two arrays (leaves float32, sums float64) that the kernels work on. Sums are
recomputed from what lies below them, never adjusted by differences: they depend on the leaves
alone, not on what happened to them before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix import kernels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.core.types import Array

_LINE = 64
"""Bytes of a cache line: aligned to it, 16 leaves cost one memory access."""

_WIDTH = 16
_NODE = 2 * _WIDTH


class SumTree:
    """Non-negative weights of `size` leaves, drawn in time logarithmic in their number.

    Args:
        size: The number of leaves, at least 1. All start at 0.

    Raises:
        ValueError: If `size` is smaller.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        self.leaves = aligned_zeros((size,), np.float32)
        """`[size]` float32. After writing to it, call `rebuild`."""
        self.nodes = aligned_zeros((_node_count(size), _NODE), np.float64)
        """`[nodes, 32]` float64, lowest level first: the sums of 16 children, then running sums."""
        self.num_positive = 0
        """The number of leaves above 0."""

    def __len__(self) -> int:
        """Return the number of leaves."""
        return len(self.leaves)

    @property
    def total(self) -> float:
        """The sum of all leaves."""
        return float(self.nodes[-1, -1])

    def set(self, indices: Array, values: Array) -> None:
        """Set leaves; of one that comes twice, the last value stays.

        Args:
            indices: `[B]` int64.
            values: `[B]` float32, finite and not negative.

        Raises:
            IndexError: If an index is outside [0, size); nothing has changed then.
            ValueError: If a value is negative, NaN or infinite; nothing has changed then.
        """
        self.num_positive += kernels.sum_tree_set(self.leaves, self.nodes, indices, values)

    def fill(self, indices: Array, value: float) -> None:
        """Set the leaves `indices` (`[B]` int64) to one value; raises as `set`."""
        self.num_positive += kernels.sum_tree_fill(self.leaves, self.nodes, indices, value)

    def rebuild(self) -> None:
        """Recompute every sum, after the leaves were written to directly."""
        self.num_positive = kernels.sum_tree_rebuild(self.leaves, self.nodes)

    def sample(
        self,
        count: int,
        batches: int,
        beta: float,
        state: Array,
        indices_out: Array,
        weights_out: Array,
    ) -> None:
        """Draw stratified batches of leaves: row i from `[i, i + 1) * total / count`.

        A leaf of value 0 is never drawn. The importance weights are those of Schaul et al. 2016
        (arXiv:1511.05952, section 3.4), `(N * p / total) ** -beta`, over the largest of their batch;
        that is `(smallest p of the batch / p) ** beta`, whatever N.

        Args:
            count: The rows of a batch.
            batches: How many batches, independent of each other.
            beta: In [0, 1]; 0 gives weights of 1.
            state: `[1]` uint64, the state of a splitmix64 generator, advanced.
            indices_out: `[batches * count]` int64, written, ascending within a batch.
            weights_out: `[batches * count]` float32, written.

        Raises:
            ValueError: If all leaves are 0, or an argument does not fit.
        """
        kernels.sum_tree_sample(
            self.leaves, self.nodes, count, batches, beta, state, indices_out, weights_out
        )

    def state_dict(self) -> dict[str, Array]:
        """Return a copy of `leaves` `[size]` float32; the sums follow from them."""
        return {"leaves": self.leaves.copy()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take on what `state_dict` returned.

        Raises:
            ValueError: If the leaves are missing, too many or too few, negative or not finite;
                nothing has changed then.
        """
        self.leaves[:] = stored_weights(state, "leaves", self.leaves.shape)
        self.rebuild()


def aligned_zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return zeros whose first byte begins a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    zeros: Array = memory[start : start + size].view(dtype).reshape(shape)
    return zeros


def stored_weights(state: Mapping[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    """Return an array of a state dict as float32; ValueError if absent, misshapen or no weights."""
    if name not in state:
        raise ValueError(f"state must hold {name!r}, got {sorted(state)}")
    weights: Array = np.asarray(state[name], np.float32)
    if weights.shape != shape:
        raise ValueError(f"{name!r} must have shape {shape}, got {weights.shape}")
    bad = weights[~(np.isfinite(weights) & (weights >= 0))]
    if bad.size:
        raise ValueError(f"{name!r} must be finite and not negative, got {bad[0]}")
    return weights


def _node_count(size: int) -> int:
    """Return the number of nodes above `size` leaves, with 16 leaves or nodes below each."""
    children, nodes = -(-size // _WIDTH), 0
    while True:
        children = -(-children // _WIDTH)
        nodes += children
        if children == 1:
            return nodes
