"""The arrays of a sum tree, for tests of the kernels on them."""

from __future__ import annotations

from typing import Any

import numpy as np


class Tree:
    """A tree's arrays, and the kernels on them."""

    def __init__(self, kernels: Any, size: int) -> None:
        self.kernels = kernels
        self.leaves = np.zeros(size, np.float32)
        children, count = -(-size // 16), 0
        while count == 0 or children > 1:
            children = -(-children // 16)
            count += children
        self.nodes = np.zeros((count, 32))
        self.arrays = (self.leaves, self.nodes)

    def load(self, values: Any) -> None:
        self.leaves[:] = values
        assert self.kernels.sum_tree_rebuild(*self.arrays) == (self.leaves > 0).sum()

    def set(self, rows: Any, values: Any) -> int:
        rows, values = np.array(rows, np.int64), np.array(values, np.float32)
        return int(self.kernels.sum_tree_set(*self.arrays, rows, values))

    def insert(self, raw: Any, rows: Any, alpha: float, top: Any) -> int:
        """Let rows in with the priority `top`."""
        return self.replace(raw, rows, [], alpha, top)

    def replace(self, raw: Any, inserted: Any, removed: Any, alpha: float, top: Any) -> int:
        """Let rows in with the priority `top`, then take rows out."""
        counts = np.array([len(inserted), len(removed)])
        # What lies behind the counts is no row: a kernel that looked at it would refuse it.
        changes = np.full((2, counts.max() + 3), -1)
        changes[0, : counts[0]], changes[1, : counts[1]] = inserted, removed
        arguments = (*self.arrays, raw, changes, counts, alpha, top)
        return int(self.kernels.priorities_replace(*arguments))

    def sample(self, count: int, batches: int = 1, beta: float = 0.0, seed: int = 1) -> Any:
        indices, weights = np.zeros(count * batches, np.int64), np.zeros(count * batches, "f4")
        state = np.array([seed], np.uint64)
        self.kernels.sum_tree_sample(*self.arrays, count, batches, beta, state, indices, weights)
        return indices, weights, int(state[0])
