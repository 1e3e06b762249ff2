"""Priorities of a prioritized replay: rows come in, their TD errors come in, batches are drawn.

Schaul et al. 2016 (arXiv:1511.05952): row i is drawn in proportion to `p_i ** alpha`, where the raw
priority `p_i` is `|td_error| + eps`. Raw priorities are kept as they are; alpha is applied once, on
the way into the sum tree, and nowhere else.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix import kernels
from tensor_optix.core.argument_checks import at_least, in_unit_interval
from tensor_optix.core.replay.storage import array_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.core.types import Array

_LINE = 64
"""Bytes of a cache line: aligned to it, 16 leaves cost one memory access."""
_WIDTH = 16


class Priorities:
    """The priorities of `size` rows, drawn in time logarithmic in their number.

    Args:
        size: The number of rows, at least 1. None is in at the start; one that is not in is never drawn.
        alpha: How much priorities matter, in [0, 1]; 0 draws uniformly.
        eps: In [0, 1], added to |td_error| so that a row with none can still be drawn.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, size: int, alpha: float = 0.6, eps: float = 1e-6) -> None:
        at_least("size", size, 1)
        self.leaves = _aligned_zeros((size,), np.float32)
        """`[size]` float32, `raw ** alpha`; 0 for rows that are not in."""
        self.nodes = _aligned_zeros((_node_count(size), 2 * _WIDTH), np.float64)
        """`[nodes, 32]` float64, lowest level first: the sums of 16 children, then running sums."""
        self.raw = _aligned_zeros((size,), np.float32)
        """`[size]` float32, the raw priorities of the rows that are in."""
        self.running_max = np.ones(1, np.float32)
        """`[1]` float32, the largest raw priority so far, at least 1. New rows enter with it."""
        self._alpha = in_unit_interval("alpha", alpha)
        self._eps = in_unit_interval("eps", eps)

    @property
    def alpha(self) -> float:
        """How much priorities matter. Setting it keeps all rows and recomputes their leaves."""
        return self._alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        if in_unit_interval("alpha", alpha) != self._alpha:
            self._alpha = float(alpha)
            kernels.priorities_rescale(self.leaves, self.nodes, self.raw, self._alpha)

    @property
    def nbytes(self) -> int:
        """The bytes of all arrays but the smallest."""
        return self.leaves.nbytes + self.nodes.nbytes + self.raw.nbytes

    def insert(self, indices: Array) -> None:
        """Let rows in, or in again, with the running maximum of the raw priorities.

        Args:
            indices: `[B]` int64.

        Raises:
            IndexError: If an index is outside [0, size); nothing has changed then.
        """
        self.replace(np.stack([indices, indices]), np.array([len(indices), 0]))

    def remove(self, indices: Array) -> None:
        """Take rows out, so that they are not drawn; raises as `insert`."""
        kernels.sum_tree_fill(self.leaves, self.nodes, indices, 0.0)

    def replace(self, changes: Array, counts: Array) -> None:
        """Let rows in as `insert` does, then take others out; a row that does both is out.

        Faster than one after the other where the rows lie side by side.

        Args:
            changes: `[2, M]` int64: rows that come in, and rows that leave.
            counts: `[2]` int64, how many of each; what follows in `changes` is not looked at.

        Raises:
            IndexError: If an index is outside [0, size); nothing has changed then.
            ValueError: If a count is outside [0, M]; nothing has changed then.
        """
        kernels.priorities_replace(
            self.leaves, self.nodes, self.raw, changes, counts, self._alpha, self.running_max
        )

    def update(self, indices: Array, td_errors: Array) -> int:
        """Give rows the raw priority `|td_error| + eps`; of one that comes twice the last stays.

        A row that is no longer in stays out. A NaN or infinite error leaves its row as it is.

        Args:
            indices: `[B]` int64.
            td_errors: `[B]` float32.

        Returns:
            How many errors were NaN or infinite.

        Raises:
            IndexError: If an index is outside [0, size); nothing has changed then.
        """
        return kernels.priorities_update(
            self.leaves,
            self.nodes,
            self.raw,
            indices,
            td_errors,
            self._alpha,
            self._eps,
            self.running_max,
        )

    def sample(
        self,
        count: int,
        batches: int,
        beta: float,
        state: Array,
        indices_out: Array,
        weights_out: Array,
    ) -> None:
        """Draw stratified batches of rows: the i-th from `[i, i + 1) * total / count`.

        The importance weights are those of Schaul et al. 2016 (section 3.4), `(N * p / total) ** -beta`,
        over the largest of their batch; that is `(smallest p of the batch / p) ** beta`, whatever N.

        Args:
            count: The rows of a batch.
            batches: How many batches, independent of each other.
            beta: In [0, 1]; 0 gives weights of 1.
            state: `[1]` uint64, the state of a splitmix64 generator, advanced.
            indices_out: `[batches * count]` int64, written, ascending within a batch.
            weights_out: `[batches * count]` float32, written.

        Raises:
            ValueError: If no row is in, or an argument does not fit.
        """
        kernels.sum_tree_sample(
            self.leaves, self.nodes, count, batches, beta, state, indices_out, weights_out
        )

    def state_dict(self) -> dict[str, Array]:
        """Return copies of `raw` `[size]`, `running_max` `[1]` (float32) and who is in (bool).

        Leaves are left out: they follow from these and alpha.
        """
        return {
            "raw": self.raw.copy(),
            "rows_in": self.leaves > 0,
            "running_max": self.running_max.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take on what `state_dict` returned; alpha and eps stay as they are.

        Raises:
            ValueError: If an array is missing, misshapen, negative or not finite; nothing has
                changed then.
        """
        raw = _weights_of(state, "raw", self.raw.shape)
        rows_in = _weights_of(state, "rows_in", self.raw.shape)
        self.running_max[:] = _weights_of(state, "running_max", (1,))
        self.raw[:] = raw
        self.leaves[:] = rows_in > 0
        kernels.sum_tree_rebuild(self.leaves, self.nodes)
        kernels.priorities_rescale(self.leaves, self.nodes, self.raw, self._alpha)


def _aligned_zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return zeros whose first byte begins a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    zeros: Array = memory[start : start + size].view(dtype).reshape(shape)
    return zeros


def _node_count(size: int) -> int:
    """Return the number of nodes above `size` leaves, with 16 leaves or nodes below each."""
    children, nodes = -(-size // _WIDTH), 0
    while True:
        children = -(-children // _WIDTH)
        nodes += children
        if children == 1:
            return nodes


def _weights_of(state: Mapping[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    weights: Array = np.asarray(array_of(state, name), np.float32)
    if weights.shape != shape:
        raise ValueError(f"{name!r} must have shape {shape}, got {weights.shape}")
    bad = weights[~(np.isfinite(weights) & (weights >= 0))]
    if bad.size:
        raise ValueError(f"{name!r} must be finite and not negative, got {bad[0]}")
    return weights
