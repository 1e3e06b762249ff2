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


class Priorities:
    """The priorities of up to `capacity` rows. A row that is not in is never drawn.

    Args:
        capacity: The number of rows, at least 1. None is in at the start.
        alpha: How much priorities matter, in [0, 1]; 0 draws uniformly.
        eps: In [0, 1], added to |td_error| so that a row with none can still be drawn.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, capacity: int, alpha: float = 0.6, eps: float = 1e-6) -> None:
        self.tree = SumTree(capacity)
        """Its leaves are `raw ** alpha`, 0 for rows that are not in."""
        self.raw = aligned_zeros((capacity,), np.float32)
        """`[capacity]` float32, the raw priorities of the rows that are in."""
        self.running_max = np.ones(1, np.float32)
        """`[1]` float32, the largest raw priority so far, at least 1. New rows enter with it."""
        self._alpha = _checked_unit("alpha", alpha)
        self._eps = _checked_unit("eps", eps)

    def __len__(self) -> int:
        """Return the capacity."""
        return len(self.raw)

    @property
    def num_rows(self) -> int:
        """The number of rows that are in."""
        return self.tree.num_positive

    @property
    def eps(self) -> float:
        """What is added to |td_error|."""
        return self._eps

    @property
    def alpha(self) -> float:
        """How much priorities matter. Setting it keeps all rows and recomputes their leaves."""
        return self._alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        if _checked_unit("alpha", alpha) != self._alpha:
            self._alpha = float(alpha)
            kernels.priorities_rescale(self.tree.leaves, self.tree.nodes, self.raw, self._alpha)

    def insert(self, indices: Array) -> None:
        """Let rows in, or in again, with the running maximum of the raw priorities.

        Args:
            indices: `[B]` int64.

        Raises:
            IndexError: If an index is outside [0, capacity); nothing has changed then.
        """
        self.replace(np.stack([indices, indices]), np.array([len(indices), 0]))

    def remove(self, indices: Array) -> None:
        """Take rows out, so that they are not drawn; raises as `insert`."""
        self.tree.fill(indices, 0.0)

    def replace(self, changes: Array, counts: Array) -> None:
        """Let rows in as `insert` does, then take others out; a row that does both is out.

        Faster than one after the other where the rows lie side by side.

        Args:
            changes: `[2, M]` int64: rows that come in, and rows that leave.
            counts: `[2]` int64, how many of each; what follows in `changes` is not looked at.

        Raises:
            IndexError: If an index is outside [0, capacity); nothing has changed then.
            ValueError: If a count is outside [0, M]; nothing has changed then.
        """
        tree = self.tree
        tree.num_positive += kernels.priorities_replace(
            tree.leaves, tree.nodes, self.raw, changes, counts, self._alpha, self.running_max
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
            IndexError: If an index is outside [0, capacity); nothing has changed then.
        """
        return kernels.priorities_update(
            self.tree.leaves,
            self.tree.nodes,
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
        """Draw batches of rows and their importance weights, as `SumTree.sample`.

        Args:
            count: The rows of a batch.
            batches: How many batches, independent of each other.
            beta: How much the weights correct, in [0, 1].
            state: `[1]` uint64, the state of a splitmix64 generator, advanced.
            indices_out: `[batches * count]` int64, written.
            weights_out: `[batches * count]` float32, written.

        Raises:
            ValueError: If no row is in, or an argument does not fit.
        """
        self.tree.sample(count, batches, beta, state, indices_out, weights_out)

    def state_dict(self) -> dict[str, Array]:
        """Return copies of `raw` `[capacity]`, `running_max` `[1]` (float32) and who is in (bool).

        Leaves are left out: they follow from these and alpha.
        """
        return {
            "raw": self.raw.copy(),
            "rows_in": self.tree.leaves > 0,
            "running_max": self.running_max.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take on what `state_dict` returned; alpha and eps stay as they are.

        Raises:
            ValueError: If an array is missing, misshapen, negative or not finite; nothing has
                changed then.
        """
        raw = stored_weights(state, "raw", self.raw.shape)
        rows_in = stored_weights(state, "rows_in", self.raw.shape)
        self.running_max[:] = stored_weights(state, "running_max", (1,))
        self.raw[:] = raw
        self.tree.leaves[:] = rows_in > 0
        self.tree.rebuild()
        kernels.priorities_rescale(self.tree.leaves, self.tree.nodes, self.raw, self._alpha)


def _checked_unit(name: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {value}")
    return float(value)
