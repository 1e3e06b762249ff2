"""The uniform replay: transitions of one or many environments come in, n-step rows go out.

Time limits are no ends of the task: a truncated row bootstraps from its true final observation.
n-step sums are formed when rows are written, per environment, whatever windows they come in.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.replay.layout import (
    ReplaySettings,
    clean_rows,
    count_of,
    integers_of,
    one_row,
    signature_of,
    unit_number,
)
from tensor_optix.core.replay.saved_state import (
    checked_layout,
    float_of,
    generator_of,
    read_state,
    write_state,
)
from tensor_optix.core.replay.storage import ReplayBatch, ReplayStorage

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from tensor_optix.core.replay.layout import ReplayLayout, Rows
    from tensor_optix.core.types import Array

_LOG = logging.getLogger(__name__)
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_FLAGS = (np.zeros(1, np.bool_), np.ones(1, np.bool_))


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
        self._gamma = unit_number("gamma", gamma)
        self._num_envs = num_envs
        self._memory_map = memory_map
        self._storage: ReplayStorage | None = None
        self._all_envs = np.empty(0, np.int64)
        self._signature: tuple[Any, ...] | None = None
        self._reward = np.empty(1, np.float32)
        self._generator = np.empty(1, np.uint64)
        self._warned = False
        self.seed(seed)

    def __len__(self) -> int:
        """Return how many rows can be sampled."""
        return 0 if self._storage is None else len(self._storage)

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
    def storage(self) -> ReplayStorage | None:
        """Where the rows are, None before the first one; to look into."""
        return self._storage

    @property
    def nbytes(self) -> int:
        """The bytes allocated."""
        return 0 if self._storage is None else self._storage.nbytes

    @property
    def num_dropped(self) -> int:
        """The rows ever kept from being sampled, as their sum of rewards is not finite."""
        return 0 if self._storage is None else self._storage.num_dropped

    def seed(self, seed: int | None) -> None:
        """Start sampling from a seed, or from one of the system's."""
        self._generator[:] = np.random.SeedSequence(seed).generate_state(1, np.uint64)

    def set_params(self, gamma: float | None = None) -> None:
        """Change the discount; rows that are in the buffer keep the sums that they have."""
        self._gamma = self._gamma if gamma is None else unit_number("gamma", gamma)

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
            observations, actions: `[B, ...]`.
            rewards: `[B]`.
            next_observations: `[B, ...]`, at the end of an episode the final observation.
            terminated, truncated: `[B]` bool; truncated is a time limit.
            env_ids: `[B]`, no two alike, where only some environments answered. None: all of them.

        Raises:
            MemoryError: The buffer does not fit into memory (at the first row).
            ValueError: An argument does not fit; nothing has changed then.
        """
        rows = (observations, actions, rewards, next_observations, terminated, truncated)
        storage = self._storage
        if storage is None or not self._write_as_usual(storage, rows, env_ids):
            storage = self._clean_and_write(rows, env_ids)
        self._committed(storage)

    def push(
        self,
        observation: Any,
        action: Any,
        reward: float,
        next_observation: Any,
        terminated: bool,
        truncated: bool = False,
    ) -> None:
        """Add one transition of the one environment; see `extend`.

        Raises:
            ValueError: There are several environments, or as `extend`.
        """
        if self._num_envs not in (None, 1):
            raise ValueError(f"push takes one environment, got {self._num_envs}: call extend")
        self._reward[0] = reward if abs(reward) <= _FLOAT32_MAX else np.nan  # as good as any
        before, after = one_row(observation), one_row(next_observation)
        ended, cut = _FLAGS[bool(terminated)], _FLAGS[bool(truncated)]
        self.extend(before, one_row(action), self._reward, after, ended, cut)

    def flush_episode(self) -> None:
        """Commit the rows that wait for rewards; they bootstrap from the newest observation."""
        if self._storage is not None:
            self._storage.flush(self._gamma)
            self._committed(self._storage)

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
        groups, storage = 1 if batches is None else batches, self._storage
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

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take on what `state_dict` returned; the buffer goes on bit for bit.

        Raises:
            MemoryError: The rows do not fit into memory.
            ValueError: The state is damaged, or of other sizes; nothing has changed then.
        """
        self._load(state)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a new directory, without a copy in memory.

        Raises:
            FileExistsError: The directory is there already.
        """
        write_state(path, self._state())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take on what `save` wrote; raises as `load_state_dict`, or FileNotFoundError."""
        self._load(read_state(path))

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
        storage, count = self._storage, count_of("rewards", rows[2])
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
        self._storage, self._signature = storage, None
        self._num_envs = layout.num_envs
        self._all_envs = np.arange(layout.num_envs)
        return storage

    def _committed(self, storage: ReplayStorage) -> None:
        """Rows may have become ready, or left."""
        self._track(storage)
        storage.unseen = 0
        if storage.num_dropped and not self._warned:
            self._warned = True
            _LOG.warning("replay: a reward is not finite; rows with such a reward are not sampled")

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
        return state if self._storage is None else state | self._storage.state()

    def _load(self, state: Mapping[str, Array]) -> None:
        gamma = unit_number("gamma", float_of(state, "gamma"))
        generator = generator_of(state)
        self._take_on(state, checked_layout(state, self._settings))
        self._signature, self._gamma, self._generator = None, gamma, generator

    def _take_on(self, state: Mapping[str, Array], layout: ReplayLayout | None) -> None:
        """Take on the rows of a state that is sound; None for no rows."""
        storage = None if layout is None else self._storage
        if layout is not None:
            if storage is None or storage.layout != layout:
                storage = self._allocate(layout)
            storage.load(state)
        self._storage = storage
