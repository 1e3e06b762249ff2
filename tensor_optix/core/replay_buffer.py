"""Replay buffers: transitions of one or many environments come in, batches of n-step rows go out.

`ReplayBuffer` samples uniformly, `PrioritizedReplayBuffer` in proportion to what is left to learn
from a row (Schaul et al. 2016, arXiv:1511.05952).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.replay.layout import floats_of, integers_of, unit_number
from tensor_optix.core.replay.priorities import Priorities
from tensor_optix.core.replay.saved_state import float_of, ready_rows
from tensor_optix.core.replay.storage import ReplayBatch
from tensor_optix.core.replay.uniform_replay import ReplayBuffer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.core.replay.layout import ReplayLayout
    from tensor_optix.core.replay.storage import ReplayStorage
    from tensor_optix.core.types import Array

__all__ = ["PrioritizedReplayBuffer", "ReplayBatch", "ReplayBuffer"]

_PREFIX = "priorities_"


class PrioritizedReplayBuffer(ReplayBuffer):
    """The newest transitions, sampled in proportion to `priority ** alpha`.

    A row's priority is `|td_error| + eps`; a new row has the largest one so far. A batch is
    stratified, and its `weights` are `(N * P(row)) ** -beta`, divided by the largest of the batch.

    Args:
        capacity: Rows of all environments.
        alpha: How much priorities matter, in [0, 1]; 0 samples uniformly.
        beta: How much the weights correct, in [0, 1].
        n_step: The rewards that a row sums up, fewer where an episode ends.
        gamma: The discount of rewards in that sum, in [0, 1].
        eps: In [0, 1], added to |td_error| so that every row can be sampled.
        **options: `num_envs`, `frame_stack`, `memory_map`, `seed`, as in `ReplayBuffer`.

    Raises:
        ValueError: If an argument is out of range.
    """

    _records_changes = True

    def __init__(
        self,
        capacity: int,
        alpha: float = 0.0,
        beta: float = 0.4,
        n_step: int = 1,
        gamma: float = 0.99,
        eps: float = 1e-6,
        **options: Any,
    ) -> None:
        super().__init__(capacity, n_step, gamma, **options)
        self._alpha = unit_number("alpha", alpha)
        self._beta = unit_number("beta", beta)
        self._eps = unit_number("eps", eps)
        self._priorities: Priorities | None = None

    @property
    def alpha(self) -> float:
        """How much priorities matter."""
        return self._alpha

    @property
    def beta(self) -> float:
        """How much the weights correct."""
        return self._beta

    @property
    def priorities(self) -> Priorities | None:
        """The priorities of all slots, None before the first row; to look into."""
        return self._priorities

    @property
    def nbytes(self) -> int:
        """The bytes allocated."""
        p = self._priorities
        trees = [] if p is None else [p.raw, p.tree.leaves, p.tree.nodes]
        return super().nbytes + sum(array.nbytes for array in trees)

    def set_params(
        self, gamma: float | None = None, alpha: float | None = None, beta: float | None = None
    ) -> None:
        """Change settings; None keeps one. All rows stay, with the sums of rewards that they have.

        Raises:
            ValueError: If one is outside [0, 1]; nothing has changed then.
        """
        alpha = self._alpha if alpha is None else unit_number("alpha", alpha)
        beta = self._beta if beta is None else unit_number("beta", beta)
        super().set_params(gamma)
        self._alpha, self._beta = alpha, beta
        if self._priorities is not None:
            self._priorities.alpha = alpha

    def update_priorities(self, indices: Array, td_errors: Array) -> None:
        """Tell how wrong the values of rows were. Slots that hold no ready row are left alone.

        Args:
            indices: `[B]` int64, from a batch; of one that comes twice the last error counts.
            td_errors: `[B]`; one that is NaN or infinite leaves its row as it is.

        Raises:
            IndexError: If an index is no slot; nothing has changed then.
            ValueError: If an argument does not fit.
        """
        if self._priorities is not None:
            rows = integers_of("indices", indices, len(indices))
            self._priorities.update(rows, floats_of("td_errors", td_errors, len(rows)))

    def _allocate(self, layout: ReplayLayout) -> ReplayStorage:
        priorities = Priorities(layout.num_slots, self._alpha, self._eps)
        storage = super()._allocate(layout)
        self._priorities = priorities
        return storage

    def _track(self, storage: ReplayStorage) -> None:
        if storage.unseen > 1 or self._priorities is None:
            self._recover(storage)
        else:
            self._priorities.replace(storage.changes, storage.change_counts)

    def _recover(self, storage: ReplayStorage) -> None:
        """Let in exactly the rows that are ready, after a call that was interrupted (Ctrl-C)."""
        slots, priorities = storage.layout.num_slots, self._priorities
        if priorities is None or len(priorities) != slots:
            priorities = self._priorities = Priorities(slots, self._alpha, self._eps)
        ready, is_in = ready_rows(storage.state(), storage.layout), priorities.tree.leaves > 0
        priorities.insert(np.flatnonzero(ready & ~is_in))
        priorities.remove(np.flatnonzero(is_in & ~ready))
        storage.unseen = 0

    def _choose(
        self, storage: ReplayStorage, batch: ReplayBatch, batch_size: int, batches: int
    ) -> None:
        if storage.unseen:
            self._recover(storage)
        if self._priorities is not None:
            self._priorities.sample(
                batch_size, batches, self._beta, self._generator, batch.indices, batch.weights
            )

    def _state(self) -> dict[str, Array]:
        if self._storage is not None and self._storage.unseen:
            self._recover(self._storage)
        state = super()._state()
        state |= {"alpha": np.array([self._alpha]), "beta": np.array([self._beta])}
        if self._priorities is not None:
            saved = self._priorities.state_dict()
            state |= {_PREFIX + name: array for name, array in saved.items()}
        return state

    def _take_on(self, state: Mapping[str, Array], layout: ReplayLayout | None) -> None:
        alpha = unit_number("alpha", float_of(state, "alpha"))
        beta = unit_number("beta", float_of(state, "beta"))
        priorities = None
        if layout is not None:
            priorities = Priorities(layout.num_slots, alpha, self._eps)
            saved = {n.removeprefix(_PREFIX): a for n, a in state.items() if n.startswith(_PREFIX)}
            priorities.load_state_dict(saved | {"rows_in": ready_rows(state, layout)})
        super()._take_on(state, layout)
        self._alpha, self._beta, self._priorities = alpha, beta, priorities
