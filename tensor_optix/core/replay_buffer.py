"""Replay buffers: transitions of one or many environments come in, batches of n-step rows go out.

`ReplayBuffer` samples uniformly, `PrioritizedReplayBuffer` in proportion to what is left to learn
from a row (Schaul et al. 2016, arXiv:1511.05952). Time limits are no ends of the task: a truncated row
bootstraps from its true final observation. n-step sums are formed when rows are written, per environment,
whatever windows they come in.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.argument_checks import in_unit_interval
from tensor_optix.core.replay.layout import (
    ReplaySettings,
    clean_rows,
    column_of,
    count_of,
    integers_of,
    one_row,
    signature_of,
)
from tensor_optix.core.replay.priorities import Priorities
from tensor_optix.core.replay.storage import (
    ReplayBatch,
    ReplayStorage,
    array_of,
    read_state,
    ready_rows,
    saved_layout,
    write_state,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from tensor_optix.core.replay.layout import ReplayLayout, Rows
    from tensor_optix.core.types import Array

__all__ = ["PrioritizedReplayBuffer", "ReplayBatch", "ReplayBuffer"]

logger = logging.getLogger(__name__)
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_FLAGS = (np.zeros(1, np.bool_), np.ones(1, np.bool_))
_PREFIX = "priorities_"


class ReplayBuffer:
    """The newest transitions, sampled uniformly.

    Every environment has `capacity // num_envs` rows. What is sampled is byte for byte what was put
    in, in its dtype. Memory is allocated at the first row; the size is logged before. Not for more
    than one thread at a time.

    Args:
        capacity: Rows of all environments.
        n_step: The rewards that a row sums up, fewer where an episode ends.
        gamma: The discount of rewards in that sum, in [0, 1].
        num_envs: Environments; None takes the length of the first `extend`, or 1.
        frame_stack: How many frames an observation `[K, ...]` stacks, oldest first; only new frames
            are stored then. 1 for none, None to find out from the first rows.
        memory_map: A new file to keep the rows in, instead of memory.
        seed: Of sampling; None takes one from the system.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> import numpy as np
        >>> from tensor_optix import ReplayBuffer
        >>> replay = ReplayBuffer(capacity=100, num_envs=2, seed=0)
        >>> observations, no = np.zeros((2, 4), np.float32), np.zeros(2, bool)
        >>> replay.extend(observations, np.array([0, 1]), np.ones(2), observations, no, no)
        >>> len(replay), replay.sample(8).rewards.shape
        (2, (8,))
    """

    _records_changes = False

    def __init__(
        self,
        capacity: int,
        n_step: int = 1,
        gamma: float = 0.99,
        *,
        num_envs: int | None = None,
        frame_stack: int | None = None,
        memory_map: str | os.PathLike[str] | None = None,
        seed: int | None = None,
    ) -> None:
        self._settings = ReplaySettings(capacity, n_step, num_envs, frame_stack)
        self._gamma = in_unit_interval("gamma", gamma)
        self._num_envs = self._settings.num_envs
        self._memory_map = memory_map
        self.storage: ReplayStorage | None = None
        """Where the rows are, None before the first one; to look into."""
        self._all_envs = np.empty(0, np.int64)
        self._signature: tuple[Any, ...] | None = None
        self._reward = np.empty(1, np.float32)
        self._generator = np.empty(1, np.uint64)
        self._warned = False
        self.seed(seed)

    def __len__(self) -> int:
        """Return how many rows can be sampled."""
        return 0 if self.storage is None else len(self.storage)

    @property
    def capacity(self) -> int:
        """The rows asked for."""
        return self._settings.capacity

    @property
    def n_step(self) -> int:
        """The rewards that a row sums up."""
        return self._settings.n_step

    @property
    def gamma(self) -> float:
        """The discount of rewards in the sums formed from now on."""
        return self._gamma

    @property
    def num_envs(self) -> int | None:
        """The environments, None while they are not known."""
        return self._num_envs

    @property
    def nbytes(self) -> int:
        """The bytes allocated."""
        return 0 if self.storage is None else self.storage.nbytes

    @property
    def num_dropped(self) -> int:
        """The rows ever kept from being sampled, as their sum of rewards is not finite."""
        return 0 if self.storage is None else self.storage.num_dropped

    def seed(self, seed: int | None) -> None:
        """Start sampling from a seed, or from one of the system's."""
        self._generator[:] = np.random.SeedSequence(seed).generate_state(1, np.uint64)

    def set_params(self, gamma: float | None = None) -> None:
        """Change the discount; rows that are in the buffer keep the sums that they have."""
        self._gamma = self._gamma if gamma is None else in_unit_interval("gamma", gamma)

    def extend(
        self,
        observations: Any,
        actions: Any,
        rewards: Any,
        next_observations: Any,
        terminated: Any,
        truncated: Any,
        env_ids: Any = None,
    ) -> None:
        """Add one transition of each of B environments.

        Where an observation is not the next one of the call before, byte for byte, the episode is
        cut: rows that wait for rewards are committed with those that they have. A row whose sum of
        rewards is not finite is never sampled.

        Args:
            observations: `[B, ...]`.
            actions: `[B, ...]`.
            rewards: `[B]`.
            next_observations: `[B, ...]`, at the end of an episode the final observation.
            terminated: `[B]` bool, the episode ended by its own rules.
            truncated: `[B]` bool, a time limit cut it.
            env_ids: `[B]`, no two alike, where only some environments answered. None: all of them.

        Raises:
            MemoryError: The buffer does not fit into memory (at the first row).
            ValueError: An argument does not fit; nothing has changed then.
        """
        rows = (observations, actions, rewards, next_observations, terminated, truncated)
        storage = self.storage
        if storage is None or not self._write_as_usual(storage, rows, env_ids):
            storage = self._clean_and_write(rows, env_ids)
        self._committed(storage)

    def push(
        self,
        obs: Any,
        action: Any,
        reward: float,
        next_obs: Any,
        done: bool,
        truncated: bool = False,
    ) -> None:
        """Add one transition of the one environment; see `extend`, which calls `done` terminated.

        Raises:
            ValueError: There are several environments, or as `extend`.
        """
        if self._num_envs not in (None, 1):
            raise ValueError(f"push takes one environment, got {self._num_envs}: call extend")
        self._reward[0] = reward if abs(reward) <= _FLOAT32_MAX else np.nan  # as good as any
        before, after = one_row(obs), one_row(next_obs)
        ended, cut = _FLAGS[bool(done)], _FLAGS[bool(truncated)]
        self.extend(before, one_row(action), self._reward, after, ended, cut)

    def flush_episode(self) -> None:
        """Commit the rows that wait for rewards; they bootstrap from the newest observation."""
        if self.storage is not None:
            self.storage.flush(self._gamma)
            self._committed(self.storage)

    def sample(
        self, batch_size: int, batches: int | None = None, out: ReplayBatch | None = None
    ) -> ReplayBatch:
        """Draw rows, with replacement.

        Args:
            batch_size: Rows of a batch.
            batches: Draw G independent batches at once, laid end to end: `G * batch_size` rows.
            out: A batch that a call of the same sizes returned, to be written over.

        Raises:
            ValueError: No row is ready, or an argument does not fit.
        """
        groups, storage = 1 if batches is None else batches, self.storage
        if batch_size < 1 or groups < 1:
            raise ValueError(f"batch_size and batches must be >= 1, got {batch_size}, {batches}")
        if storage is None or not len(storage):
            raise ValueError("sample must be called when a row has all its rewards, got none")
        batch = storage.batch(batch_size * groups, out)
        self._choose(storage, batch, batch_size, groups)
        storage.gather(batch)
        return batch

    def state_dict(self) -> dict[str, Array]:
        """Return copies of everything: rows, those that wait for rewards, generator, settings."""
        return {name: np.array(array) for name, array in self._state().items()}

    def state_without_rows(self) -> dict[str, Array]:
        """Return what `state_dict` does, but for `"ring"`."""
        return {name: np.array(one) for name, one in self._state().items() if name != "ring"}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take on what `state_dict` returned; the buffer goes on bit for bit.

        Raises:
            MemoryError: The rows do not fit into memory.
            ValueError: The state is damaged, or of other sizes; nothing has changed then.
        """
        gamma, generator = _unit_of(state, "gamma"), np.array(array_of(state, "generator"))
        if generator.shape != (1,) or generator.dtype != np.uint64:
            found = f"{generator.dtype} {generator.shape}"
            raise ValueError(f"'generator' must be uint64 (1,), got {found}")
        self._take_on(state, saved_layout(state, self._settings))
        self._signature, self._gamma, self._generator = None, gamma, generator

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a new directory, without a copy in memory.

        Raises:
            FileExistsError: The directory is there already.
        """
        write_state(path, self._state())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take on what `save` wrote; raises as `load_state_dict`, or FileNotFoundError."""
        self.load_state_dict(read_state(path))

    def _write_as_usual(self, storage: ReplayStorage, rows: Rows, env_ids: Any) -> bool:
        """Write rows that look like those before; return whether that went well."""
        if self._signature is None or signature_of(rows) != self._signature:
            return False
        try:
            storage.write(rows, self._all_envs if env_ids is None else env_ids, self._gamma)
            return True
        except (TypeError, ValueError):  # a strided view, or an error that deserves more words
            return False

    def _clean_and_write(self, rows: Rows, env_ids: Any) -> ReplayStorage:
        """Check every field, convert what can be, and allocate memory for the first rows."""
        storage, count = self.storage, count_of("rewards", rows[2])
        layout = self._settings.layout(rows, env_ids) if storage is None else storage.layout
        ids = None if env_ids is None else integers_of("env_ids", env_ids, count)
        clean = clean_rows(layout, rows, count, every=ids is None)
        if storage is None:
            storage = self._allocate(layout)
        storage.write(clean, self._all_envs if ids is None else ids, self._gamma)
        self._signature = signature_of(clean)
        return storage

    def _allocate(self, layout: ReplayLayout) -> ReplayStorage:
        storage = ReplayStorage(layout, self._memory_map, self._records_changes)
        self.storage, self._signature = storage, None
        self._num_envs = layout.num_envs
        self._all_envs = np.arange(layout.num_envs)
        return storage

    def _committed(self, storage: ReplayStorage) -> None:
        """Rows may have become ready, or left."""
        self._track(storage)
        storage.unseen = 0
        if storage.num_dropped and not self._warned:
            self._warned = True
            logger.warning(
                "replay: a reward is not finite; rows with such a reward are not sampled"
            )

    def _track(self, storage: ReplayStorage) -> None:
        """Keep what a subclass knows of the rows in step with `storage.changes`."""

    def _choose(
        self, storage: ReplayStorage, batch: ReplayBatch, batch_size: int, batches: int
    ) -> None:
        """Fill `indices` and `weights` of a batch."""
        storage.draw(self._generator, batch.indices)
        batch.weights.fill(1.0)

    def _state(self) -> dict[str, Array]:
        state = {"generator": self._generator, "gamma": np.array([self._gamma])}
        return state if self.storage is None else state | self.storage.state()

    def _take_on(self, state: Mapping[str, Array], layout: ReplayLayout | None) -> None:
        """Take on the rows of a state that is sound; None for no rows."""
        if layout is None:
            self.storage = None
            return
        storage = self.storage
        if storage is None or storage.layout != layout:
            storage = self._allocate(layout)
        storage.load(state)


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

    Examples:
        >>> import numpy as np
        >>> from tensor_optix import PrioritizedReplayBuffer
        >>> replay = PrioritizedReplayBuffer(capacity=100, alpha=0.6, num_envs=1, seed=0)
        >>> replay.push(np.zeros(4, np.float32), 1, 0.5, np.ones(4, np.float32), done=True)
        >>> batch = replay.sample(4)
        >>> replay.update_priorities(batch.indices, np.full(4, 2.0))
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
        self._alpha = in_unit_interval("alpha", alpha)
        self._beta = in_unit_interval("beta", beta)
        self._eps = in_unit_interval("eps", eps)
        self.priorities: Priorities | None = None
        """The priorities of all slots, None before the first row; to look into."""

    @property
    def alpha(self) -> float:
        """How much priorities matter."""
        return self._alpha

    @property
    def beta(self) -> float:
        """How much the weights correct."""
        return self._beta

    @property
    def nbytes(self) -> int:
        """The bytes allocated."""
        return super().nbytes + (0 if self.priorities is None else self.priorities.nbytes)

    def set_params(
        self, gamma: float | None = None, alpha: float | None = None, beta: float | None = None
    ) -> None:
        """Change settings; None keeps one. All rows stay, with the sums of rewards that they have.

        Raises:
            ValueError: If one is outside [0, 1]; nothing has changed then.
        """
        alpha = self._alpha if alpha is None else in_unit_interval("alpha", alpha)
        beta = self._beta if beta is None else in_unit_interval("beta", beta)
        super().set_params(gamma)
        self._alpha, self._beta = alpha, beta
        if self.priorities is not None:
            self.priorities.alpha = alpha

    def update_priorities(self, indices: Array, td_errors: Array) -> None:
        """Tell how wrong the values of rows were. Slots that hold no ready row are left alone.

        Args:
            indices: `[B]` int64, from a batch; of one that comes twice the last error counts.
            td_errors: `[B]`; one that is NaN or infinite leaves its row as it is.

        Raises:
            IndexError: If an index is no slot; nothing has changed then.
            ValueError: If an argument does not fit.
        """
        if self.priorities is not None:
            rows = integers_of("indices", indices, len(indices))
            self.priorities.update(rows, column_of("td_errors", td_errors, len(rows)))

    def _allocate(self, layout: ReplayLayout) -> ReplayStorage:
        priorities = Priorities(layout.num_slots, self._alpha, self._eps)
        storage = super()._allocate(layout)
        self.priorities = priorities
        return storage

    def _track(self, storage: ReplayStorage) -> None:
        if storage.unseen > 1 or self.priorities is None:
            self._recover(storage)
        else:
            self.priorities.replace(storage.changes, storage.change_counts)

    def _recover(self, storage: ReplayStorage) -> None:
        """Let in exactly the rows that are ready, after a call that was interrupted (Ctrl-C)."""
        slots, priorities = storage.layout.num_slots, self.priorities
        if priorities is None or len(priorities.raw) != slots:
            priorities = self.priorities = Priorities(slots, self._alpha, self._eps)
        ready, is_in = ready_rows(storage.state(), storage.layout), priorities.leaves > 0
        priorities.insert(np.flatnonzero(ready & ~is_in))
        priorities.remove(np.flatnonzero(is_in & ~ready))
        storage.unseen = 0

    def _choose(
        self, storage: ReplayStorage, batch: ReplayBatch, batch_size: int, batches: int
    ) -> None:
        if storage.unseen:
            self._recover(storage)
        if self.priorities is not None:
            self.priorities.sample(
                batch_size, batches, self._beta, self._generator, batch.indices, batch.weights
            )

    def _state(self) -> dict[str, Array]:
        if self.storage is not None and self.storage.unseen:
            self._recover(self.storage)
        state = super()._state()
        state |= {"alpha": np.array([self._alpha]), "beta": np.array([self._beta])}
        if self.priorities is not None:
            saved = self.priorities.state_dict()
            state |= {_PREFIX + name: array for name, array in saved.items()}
        return state

    def _take_on(self, state: Mapping[str, Array], layout: ReplayLayout | None) -> None:
        alpha, beta = _unit_of(state, "alpha"), _unit_of(state, "beta")
        priorities = None
        if layout is not None:
            priorities = Priorities(layout.num_slots, alpha, self._eps)
            saved = {n.removeprefix(_PREFIX): a for n, a in state.items() if n.startswith(_PREFIX)}
            priorities.load_state_dict(saved | {"rows_in": ready_rows(state, layout)})
        super()._take_on(state, layout)
        self._alpha, self._beta, self.priorities = alpha, beta, priorities


def _unit_of(state: Mapping[str, Array], name: str) -> float:
    """Return a number in [0, 1] of a state."""
    array = np.asarray(array_of(state, name))
    if array.shape != (1,):
        raise ValueError(f"{name!r} must have shape (1,), got {array.shape}")
    return in_unit_interval(name, float(array[0]))
