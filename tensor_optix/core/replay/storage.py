"""The rows of a replay: transitions come in, batches of rows go out; their saved state is checked here, too.

Every environment writes to a ring of its own; every observation is stored once (the next observation
of a row is where the next row will be), and of a stack of frames only the newest frame. Frames that
are in no slot, such as final observations, lie in a side table that grows as needed. The kernels
`replay_*` do the work; all state is in the arrays here.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

from tensor_optix import kernels
from tensor_optix.core.replay.layout import ReplayLayout, RowFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.core.replay.layout import ReplaySettings, Rows
    from tensor_optix.core.types import Array

logger = logging.getLogger(__name__)
_MEMINFO = Path("/proc/meminfo")
_WORDS = 8
"""Of the counters, and of the cursor of an environment."""
_READY, _DROPPED, _SIDE_FREE, _INSERTED, _REMOVED = range(5)
_HEAD, _PENDING, _WINDOW, _ANNOUNCED = range(4)
_USED = 6
_DROPPED_FLAG = 2


class ReplayBatch(NamedTuple):
    """B sampled rows; every array starts with an axis of that length.

    Attributes:
        observations: `[B, ...]`, dtype as they were given.
        actions: `[B, ...]`, dtype as they were given.
        rewards: `[B]` float32, the sum of `gamma**k * r` over the row's steps.
        next_observations: `[B, ...]`, after the row's steps; after an end, the true final one.
        dones: `[B]` bool, the steps ended in a termination; a time limit is none.
        weights: `[B]` float32, importance weights, 1 where sampling is uniform.
        indices: `[B]` int64, the rows, for `update_priorities`.
        n_steps: `[B]` int32, the steps summed: discount what follows by `gamma**n_steps`.
    """

    observations: Array
    actions: Array
    rewards: Array
    next_observations: Array
    dones: Array
    weights: Array
    indices: Array
    n_steps: Array


@dataclass(eq=False)
class RowHistory:
    """What came since all rows of a storage were replaced at once."""

    loaded: Array | None
    """The cursors of the state that they were loaded from; None: there were none."""
    writes: int = 0
    """Calls of `write` since then, counted as they begin; no environment had more rows."""


class ReplayStorage:
    """The arrays of a replay, allocated at once.

    Args:
        layout: How rows lie in memory.
        path: A new file for the ring; None keeps it in memory.
        records_changes: Whether `changes` tells which rows came and went.

    Raises:
        FileExistsError: The file is there already.
        MemoryError: The machine has not that much memory available.
        OSError: The disk has not that much space left, or the file cannot be written.
    """

    def __init__(
        self,
        layout: ReplayLayout,
        path: str | os.PathLike[str] | None = None,
        records_changes: bool = False,
    ) -> None:
        rows = layout.num_envs * layout.rows
        logger.info("replay: %s rows, %s", f"{rows:,}", size_text(layout.ring_bytes))
        self.layout = layout
        self._ring = _zeros(layout.num_slots, layout.slot.itemsize, path)
        entries = max(2 * layout.frames, layout.num_envs)
        self._side = np.zeros((entries, layout.frame_bytes), np.uint8)
        self._entries = np.stack([np.arange(entries), np.full(entries, -1)]).astype(np.int32)
        self._cursors = np.zeros((layout.num_envs, _WORDS), np.int64)
        self._counters = np.zeros(_WORDS, np.int64)
        self._counters[_SIDE_FREE] = entries
        # One call commits at most n rows of each environment.
        recorded = layout.num_envs * layout.n_step if records_changes else 0
        self.changes = np.zeros((2, recorded), np.int64)
        """`[2, M]` int64, the rows that the last call made ready, and those it took away.

        A row may be in both: it is gone then.
        """
        self.unseen = 0
        """Calls that wrote, or were interrupted at it, the changes of which nobody has taken in."""
        self.history = RowHistory(None)
        """Replaced by another when rows are loaded."""

    def __len__(self) -> int:
        """The rows that can be sampled."""
        return self._counters.item(_READY)

    @property
    def num_dropped(self) -> int:
        """The rows ever kept from being sampled, as their reward is not finite."""
        return self._counters.item(_DROPPED)

    @property
    def nbytes(self) -> int:
        """The bytes of all arrays."""
        small = (self._side, self._entries, self._cursors, self._counters, self.changes)
        return self._ring.nbytes + sum(array.nbytes for array in small)

    @property
    def change_counts(self) -> Array:
        """`[2]` int64, how many there are of each; what follows them in `changes` is older."""
        # Not kept: a deep copy would tear such a view from its counters.
        return self._counters[_INSERTED : _REMOVED + 1]

    @property
    def heads(self) -> Array:
        """`[num_envs]` int64, the slot that each writes next; a copy."""
        return self._cursors[:, _HEAD].copy()

    @property
    def used(self) -> int:
        """How many slots the environment that used the most has ever written."""
        return int(self._cursors[:, _USED].max())

    @property
    def slots(self) -> Array:
        """A view of all slots `[num_envs, slots]`, structured, to look into."""
        shape = (self.layout.num_envs, self.layout.slots)
        return self._ring.view(self.layout.slot).reshape(shape)

    @property
    def ring(self) -> Array:
        """A view of all slots as bytes, `[num_envs, slots, bytes of a slot]` uint8.

        A slot changes while it is the head of its ring or one of the `n_step` before it, and when the ring
        has turned and it is written anew.
        """
        layout = self.layout
        return self._ring.reshape((layout.num_envs, layout.slots, layout.slot.itemsize))

    def write(self, rows: Rows, env_ids: Array, gamma: float) -> None:
        """Write one transition of each of B environments.

        Args:
            rows: As `clean_rows` returns them.
            env_ids: `[B]` int64, no two alike.
            gamma: The discount of rewards in a sum, in [0, 1].

        Raises:
            ValueError: If an array does not fit; nothing has changed then.
        """
        self.unseen += 1
        self.history.writes += 1
        try:
            done = self._write(rows, env_ids, gamma, 0)
        except (TypeError, ValueError):
            self.unseen -= 1
            self.history.writes -= 1
            raise
        while done < len(env_ids):
            self._grow()
            done = self._write(rows, env_ids, gamma, done)

    def flush(self, gamma: float) -> None:
        """Commit all rows that wait for rewards with those that they have."""
        self.unseen += 1
        ring, side, entries = self._ring, self._side, self._entries
        cursors, counters, changes = self._cursors, self._counters, self.changes
        state = (self.layout.numbers, ring, side, entries, cursors, counters, changes)
        kernels.replay_flush(*state, gamma)

    def draw(self, generator: Array, indices: Array) -> None:
        """Fill `indices` `[B]` int64 with rows drawn uniformly, with replacement.

        Args:
            generator: `[1]` uint64, the state of a splitmix64 generator, advanced.
            indices: Written.
        """
        kernels.replay_draw(
            self.layout.numbers, self._ring, self._cursors, self._counters, generator, indices
        )

    def batch(self, count: int, out: ReplayBatch | None = None) -> ReplayBatch:
        """Return `out` if it is a batch of `count` rows, or a new one, that is yet to be written.

        Raises:
            ValueError: If `out` is not.
        """
        observation, action = self.layout.observation, self.layout.action
        if out is not None:
            if len(out.indices) != len(out.weights) or len(out.indices) != count:
                raise ValueError(f"out must be a batch of {count} rows, got {len(out.indices)}")
            dtypes = (out.observations.dtype, out.next_observations.dtype, out.actions.dtype)
            if dtypes != (observation.dtype, observation.dtype, action.dtype):
                raise ValueError(f"out must be a batch of this buffer, got the dtypes {dtypes}")
            return out
        return ReplayBatch(
            observation.empty(count),
            action.empty(count),
            np.empty(count, np.float32),
            observation.empty(count),
            np.empty(count, np.bool_),
            np.empty(count, np.float32),
            np.empty(count, np.int64),
            np.empty(count, np.int32),
        )

    def gather(self, batch: ReplayBatch) -> None:
        """Fill all fields of a batch but the weights with the rows that its `indices` name.

        Raises:
            IndexError: If an index is no slot.
            ValueError: If a field does not fit.
        """
        fields = (*batch[:5], batch.n_steps)
        kernels.replay_gather(self.layout.numbers, self._ring, self._side, batch.indices, *fields)

    def state(self) -> dict[str, Array]:
        """Return the state as views of the arrays; of the ring, the slots ever written."""
        shape = (self.layout.num_envs, self.layout.slots, self.layout.slot.itemsize)
        return {
            "layout": self.layout.numbers,
            "observation_format": self.layout.observation.empty(0),
            "action_format": self.layout.action.empty(0),
            "ring": self._ring.reshape(shape)[:, : self.used],
            "side": self._side,
            "side_entries": self._entries,
            "cursors": self._cursors,
            "counters": self._counters,
        }

    def load(self, state: Mapping[str, Array]) -> None:
        """Take on a state of a storage of the same layout, that `saved_layout` let pass."""
        shape = (self.layout.num_envs, self.layout.slots, self.layout.slot.itemsize)
        # First, so that who reads the ring meanwhile can tell.
        self.history = RowHistory(state["cursors"])
        ring = self._ring.reshape(shape)
        used = state["ring"].shape[1]
        ring[:, :used] = state["ring"]
        ring[:, used:] = 0
        self._side = np.array(state["side"])
        self._entries = np.array(state["side_entries"])
        self._cursors[:] = state["cursors"]
        self._counters[:] = state["counters"]
        self.unseen = 0

    def _write(self, rows: Rows, env_ids: Array, gamma: float, first: int) -> int:
        """Write rows from `first` on; return the first that the side table has no room for."""
        ring, side, entries = self._ring, self._side, self._entries
        cursors, counters, changes = self._cursors, self._counters, self.changes
        state = (self.layout.numbers, ring, side, entries, cursors, counters, changes)
        return kernels.replay_extend(*state, *rows, env_ids, gamma, first)

    def _grow(self) -> None:
        """Double the side table."""
        size = len(self._side)
        side = np.zeros((2 * size, self.layout.frame_bytes), np.uint8)
        side[:size] = self._side
        entries = np.full((2, 2 * size), -1, np.int32)
        entries[:, :size] = self._entries
        unused = self._counters.item(_SIDE_FREE)
        entries[0, unused : unused + size] = np.arange(size, 2 * size)
        self._counters[_SIDE_FREE] += size
        self._side, self._entries = side, entries


def array_of(state: Mapping[str, Array], name: str) -> Array:
    """Return an array of a state; ValueError if it is not there."""
    if name not in state:
        raise ValueError(f"state must hold {name!r}, got {sorted(state)}")
    return state[name]


def saved_layout(state: Mapping[str, Array], settings: ReplaySettings) -> ReplayLayout | None:
    """Return the layout of a state, or None if it is that of a buffer without rows.

    Nothing is allocated before sizes are known to fit the settings.

    Raises:
        ValueError: If the state is damaged, or does not fit the settings.
    """
    if {"layout", "ring", "cursors", "counters"}.isdisjoint(state):
        return None
    layout = _layout_of(state)
    settings.check(layout)
    _check_arrays(state, layout)
    _check_cursors(state, layout)
    _check_side_entries(state, layout)
    return layout


def ready_rows(state: Mapping[str, Array], layout: ReplayLayout) -> Array:
    """Return which slots hold a row that can be sampled, `[num_slots]` bool.

    Args:
        state: Of a storage of this layout.
        layout: Of the storage.

    Raises:
        ValueError: If there should be rows in slots that were never written.
    """
    head, pending, window = state["cursors"].T[: _WINDOW + 1, :, np.newaxis]
    back = (head - 1 - np.arange(layout.slots)) % layout.slots + 1
    in_window = (back > pending) & (back <= pending + window)
    used = state["ring"].shape[1]
    if in_window[:, used:].any():
        raise ValueError(f"'ring' must hold all rows of its cursors, got {used} slots of each")
    flags = state["ring"].view(layout.slot)["flags"][..., 0]
    in_window[:, :used] &= flags & _DROPPED_FLAG == 0
    ready: Array = in_window.reshape(-1)
    return ready


def _layout_of(state: Mapping[str, Array]) -> ReplayLayout:
    numbers = np.asarray(array_of(state, "layout"))
    if numbers.shape != (9,) or numbers.dtype != np.int64 or (numbers[:5] < 1).any():
        raise ValueError(f"'layout' must be nine int64 numbers, sizes >= 1, got {numbers}")
    envs, _, rows, n_step, frames = numbers[:5].tolist()
    observation = RowFormat.of(np.asarray(array_of(state, "observation_format")))
    action = RowFormat.of(np.asarray(array_of(state, "action_format")))
    if observation.dtype.hasobject or action.dtype.hasobject:
        raise ValueError("observations and actions must be numbers, got Python objects")
    layout = ReplayLayout(envs, rows, n_step, frames, observation, action)
    if not np.array_equal(numbers, layout.numbers):
        raise ValueError(f"'layout' must be {layout.numbers.tolist()}, got {numbers.tolist()}")
    return layout


def _check_arrays(state: Mapping[str, Array], layout: ReplayLayout) -> None:
    entries = len(array_of(state, "side"))
    slots = array_of(state, "ring").shape[1:2]
    expected = {
        "ring": (np.uint8, (layout.num_envs, *slots, layout.slot.itemsize)),
        "side": (np.uint8, (entries, layout.frame_bytes)),
        "side_entries": (np.int32, (2, entries)),
        "cursors": (np.int64, (layout.num_envs, _WORDS)),
        "counters": (np.int64, (_WORDS,)),
    }
    for name, (dtype, shape) in expected.items():
        array = array_of(state, name)
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(
                f"{name!r} must be {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}"
            )
    used = int(state["cursors"][:, _USED].max())
    if slots != (used,) or used > layout.slots:
        raise ValueError(f"'ring' must hold the {used} slots of its cursors, got {slots}")


def _check_cursors(state: Mapping[str, Array], layout: ReplayLayout) -> None:
    cursors = state["cursors"].T
    bounds = {
        _HEAD: layout.slots,
        _PENDING: layout.n_step,
        _WINDOW: layout.rows + 1,
        _ANNOUNCED: 2,
        _USED: layout.slots + 1,
    }
    sound = np.ones(layout.num_envs, bool)
    for column, bound in bounds.items():
        sound &= (cursors[column] >= 0) & (cursors[column] < bound)
    has_rows = cursors[_PENDING] + cursors[_WINDOW] > 0
    sound &= np.where(cursors[_ANNOUNCED] == 0, cursors[_PENDING] == 0, has_rows)
    if not sound.all():
        raise ValueError(f"'cursors' must be of this buffer, got {cursors[:, ~sound][:, 0]}")
    ready, counted = np.count_nonzero(ready_rows(state, layout)), state["counters"][_READY]
    if ready != counted or (state["counters"] < 0).any():
        raise ValueError(f"'counters' must count {ready} rows, got {state['counters']}")


def _check_side_entries(state: Mapping[str, Array], layout: ReplayLayout) -> None:
    unused, owners = state["side_entries"]
    unused = np.sort(unused[: state["counters"][_SIDE_FREE]])
    sound = (
        len(unused) == state["counters"][_SIDE_FREE]
        and np.array_equal(unused, np.flatnonzero(owners == -1))
        and owners.max(initial=0) < layout.num_slots
    )
    if not sound:
        raise ValueError("'side_entries' must list the side frames that are free, got others")


def write_state(path: str | os.PathLike[str], state: Mapping[str, Array]) -> None:
    """Write arrays to a new directory.

    Raises:
        FileExistsError: If the directory is there already.
    """
    directory = Path(path).expanduser()
    directory.mkdir(parents=True)
    for name, array in state.items():
        np.save(directory / f"{name}.npy", array, allow_pickle=False)


def read_state(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Return the arrays that `write_state` wrote, as read-only maps of their files.

    Raises:
        FileNotFoundError: If there is no such directory.
        ValueError: If a file is no array, is cut short, or holds Python objects.
    """
    directory = Path(path).expanduser()
    if not directory.is_dir():
        raise FileNotFoundError(f"path must be a directory that a replay was saved to, got {path}")
    return {file.stem: _read(file) for file in sorted(directory.glob("*.npy"))}


def _read(file: Path) -> Array:
    try:
        return np.asarray(np.lib.format.open_memmap(file, mode="r"))
    except (ValueError, OverflowError, TypeError) as error:
        raise ValueError(f"{file} must be an array that a replay saved: {error}") from error


def _zeros(rows: int, row_bytes: int, path: str | os.PathLike[str] | None) -> Array:
    """Return zeros `[rows, row_bytes]` uint8, in memory or in a new file."""
    if path is not None:
        return _mapped(Path(path).expanduser(), rows, row_bytes)
    available = available_memory()
    if available is not None and rows * row_bytes > available:
        raise MemoryError(
            f"the replay needs {size_text(rows * row_bytes)} of memory, {size_text(available)} are "
            "available: choose a smaller capacity, or keep it in a file with memory_map=PATH"
        )
    return np.zeros((rows, row_bytes), np.uint8)


def available_memory() -> int | None:
    """Return the bytes that can be allocated without swapping, or None where nobody knows."""
    if _MEMINFO.exists():
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def size_text(size: int) -> str:
    """Return a number of bytes as people write it, such as `7.1 GB`."""
    for unit, bytes_of_one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes_of_one:
            return f"{size / bytes_of_one:.1f} {unit}"
    return f"{size} B"


def _mapped(path: Path, rows: int, row_bytes: int) -> Array:
    size = rows * row_bytes
    try:
        file = path.open("xb")
    except FileExistsError:
        raise FileExistsError(f"memory_map must be a new file, but {path} exists") from None
    try:
        with file:
            _reserve(file, size)
    except OSError as error:
        path.unlink()
        raise OSError(
            f"the replay needs {size_text(size)} on the disk of {path}: {error}; choose a smaller "
            "capacity or another disk"
        ) from error
    return np.asarray(np.memmap(path, np.uint8, "r+", shape=(rows, row_bytes)))


def _reserve(file: IO[bytes], size: int) -> None:
    """Give a file its size, and room on the disk where the system can reserve it.

    A file with holes would end the process when others have filled the disk.
    """
    left = shutil.disk_usage(Path(file.name).parent).free
    if size > left:
        raise OSError(f"{size_text(left)} are left")
    if sys.platform == "linux":
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)
