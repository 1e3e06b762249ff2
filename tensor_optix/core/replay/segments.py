"""Replays on the disk, what is new of them at a time: buffers go in, entries that lead back to them come out.

    rows_<16 hex>.bin    a segment: the heads of all rings, then the slots up to there, the oldest first

A segment is never written again, so that checkpoints share it. A slot changes only while it is the head
of its ring or one of the last `n_step` behind it, and when the ring has turned
(`kernels/replay_writing.hpp`); all others are read while rows are being written.
"""

from __future__ import annotations

import math
import mmap
import re
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.checkpoints.durable_files import seal, sync_directory, unaltered_file
from tensor_optix.core.checkpoints.saved_state import read_state, reading, write_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tensor_optix.core.replay.storage import ReplayStorage, RowHistory
    from tensor_optix.core.replay_buffer import ReplayBuffer
    from tensor_optix.core.types import Array

_CHUNK_BYTES = 2**20
"""Of rows that are read at once."""
_MARGIN_BYTES = 4 * 2**20
"""Of rows that are copied, as the ring may turn onto them."""
_MARGIN = 16
"""Slots of each environment that are copied in any case, where the ring may turn onto them."""
_SIBLINGS = 8
"""So many segments of one level become one of the next: a chain has 7 of each level at most."""
_SMALL = 4096
"""Items of an array that is saved as it is."""
_FILE = re.compile(r"rows_[0-9a-f]{16}\.bin")
_DTYPE = re.compile(r"[<>|][biufc][0-9]{1,2}")


class ReplayMoved(RuntimeError):
    """Rows came in faster than those that they replaced could be written. The next checkpoint may do."""


@dataclass(frozen=True)
class _Segment:
    """A file of rows. Times are counted in rows of an environment."""

    name: str
    mark: dict[str, Any]
    """Size and SHA-256."""
    count: int
    """Slots of each environment, up to its head."""
    level: int
    most: int
    """The time at which it was written; no environment had more rows since another segment."""
    least: int
    """The same; no environment had fewer."""


@dataclass(frozen=True)
class _Chain:
    """Segments that make up a ring, the oldest first, and the moment that they lead to."""

    segments: tuple[_Segment, ...]
    heads: Array
    origin: object
    """The history that the moment belongs to, or the loaded cursors that begin one."""
    writes: int
    """Of that history, at the moment."""


@dataclass(frozen=True)
class _Plan:
    """A segment that is to be written, and the older ones that are still needed beside it."""

    kept: tuple[_Segment, ...]
    count: int
    level: int
    most: int
    least: int


class ReplayDraft:
    """A buffer at one moment: copies of what may change, and where the rest is.

    Args:
        name: Of the buffer.
        rest: Copies of everything but the rows.
    """

    def __init__(self, name: str, rest: dict[str, Array]) -> None:
        self.name = name
        self.rest = rest
        self.rows: _RowsDraft | None = None
        """None where there are no rows."""


class _RowsDraft:
    """The slots that a segment is to hold; those that may change soon are copied."""

    def __init__(self, storage: ReplayStorage, plan: _Plan, margin: int) -> None:
        self.plan = plan
        self.heads = storage.heads
        self.history = storage.history
        self.writes = storage.history.writes
        self.used = storage.used
        self._storage = storage
        layout = storage.layout
        self.shape = (layout.num_envs, layout.slots, layout.slot.itemsize)
        # Distances from the head: the oldest, [ahead, count), are next in turn to be written over.
        self._behind = min(plan.count, layout.n_step + 1)
        self._ahead = max(self._behind, min(plan.count, layout.slots - margin))
        self._oldest = self._read(self._ahead, plan.count)
        self._newest = self._read(0, self._behind)

    def pieces(self) -> Iterator[Array]:
        """Yield the slots `[n, num_envs, bytes]`, the oldest first.

        Raises:
            ReplayMoved: If what was read is no longer what it was at the moment of the draft.
        """
        yield self._oldest
        num_envs, _, row_bytes = self.shape
        for start, stop in _chunks(self._behind, self._ahead, num_envs * row_bytes):
            piece = self._read(start, stop)
            self._require_unmoved(stop - 1)
            yield piece
        yield self._newest

    def _read(self, start: int, stop: int) -> Array:
        num_envs, slots, row_bytes = self.shape
        rows = _pages((stop - start, num_envs, row_bytes))
        ring = self._storage.ring.reshape(-1, row_bytes)
        # In parts, as the numbers of small rows would take more memory than the rows.
        for first, last in _chunks(start, stop, num_envs * row_bytes):
            cells = _slots(self.heads, first, last, slots) + np.arange(num_envs) * slots
            ring.take(cells, axis=0, out=rows[stop - last : stop - first], mode="clip")
        return rows

    def _require_unmoved(self, back: int) -> None:
        """Refuse what lies so far behind the head, if a row may have been written there."""
        storage = self._storage
        written = storage.history.writes - self.writes
        if storage.history is not self.history or written >= self.shape[1] - back:
            raise ReplayMoved(
                f"{written:,} steps were taken while the replay was written, which replaced rows that "
                "were still to be written: a faster disk or a larger replay_capacity avoids that"
            )


class ReplayFiles:
    """Writes replay buffers into a directory, and reads them. Calls must not overlap.

    Args:
        directory: For the files; made when the first is written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._chains: dict[str, _Chain] = {}
        self._hurry: dict[str, int] = {}

    def draft(self, name: str, buffer: ReplayBuffer) -> ReplayDraft:
        """Return what is to be written of a buffer as it is now.

        Some MB are copied at most beside what lies outside the ring: priorities, side frames, counters.

        Args:
            name: Of the buffer, the same each time.
            buffer: May go on being written to at once.
        """
        draft = ReplayDraft(name, buffer.state_without_rows())
        storage = buffer.storage
        if storage is not None:
            layout = storage.layout
            hurry = self._hurry.get(name, 1)
            margin = max(_MARGIN, _MARGIN_BYTES // (layout.num_envs * layout.slot.itemsize))
            plan = _plan(self._chains.get(name), storage)
            draft.rows = _RowsDraft(storage, plan, hurry * margin)
        return draft

    def write(self, draft: ReplayDraft, path: Path) -> dict[str, Any]:
        """Bring the rows onto the disk that are not there yet; may run in a thread while rows come in.

        Args:
            draft: Of the buffer.
            path: In the checkpoint, for everything but the rows; left to the caller to seal.

        Returns:
            The entry, in JSON form, that leads back to the rows.

        Raises:
            OSError: If the disk refuses; what was written before stays what it is.
            ReplayMoved: If rows were replaced before they were written; as before.
            ValueError: If observations or actions are no numbers.
        """
        rest: dict[str, Any] = {
            "state": {key: _packed(key, one) for key, one in draft.rest.items()}
        }
        if draft.rows is None:
            self._chains.pop(draft.name, None)
            write_state(path, rest)
            return {"segments": []}
        write_state(path, rest | {"shape": list(draft.rows.shape), "used": draft.rows.used})
        chain = self._write_rows(draft.name, draft.rows)
        self._chains[draft.name] = chain
        return {"segments": [asdict(segment) for segment in chain.segments]}

    def read(self, name: str, entry: dict[str, Any], path: Path) -> dict[str, Array]:
        """Return a buffer's state, as its `state_dict` had it at the moment of the draft.

        A buffer that is loaded with it is drafted from there on.

        Args:
            name: Of the buffer.
            entry: What `write` returned.
            path: As it was given; the caller has verified what is there.

        Raises:
            CheckpointError: If a file is missing or not what was written.
        """
        with reading(f"the replay {name}"):
            self._chains.pop(name, None)
            rest = read_state(path)
            state = {key: _unpacked(packed) for key, packed in rest["state"].items()}
            if entry["segments"]:
                segments = tuple(_Segment(**one) for one in entry["segments"])
                state["ring"], heads = self._read_rows(segments, rest["shape"], rest["used"])
                self._chains[name] = _Chain(segments, heads, state["cursors"], 0)
            return state

    def remove_unused(self, entries: Iterable[dict[str, Any]]) -> None:
        """Delete the segments that none of these entries names; other files are left alone."""
        named = {one["name"] for entry in entries for one in entry["segments"]}
        for path in self.directory.glob("rows_*"):
            if _FILE.fullmatch(path.name) and path.name not in named:
                path.unlink(missing_ok=True)
        for name, chain in list(self._chains.items()):
            if not {one.name for one in chain.segments} <= named:
                del self._chains[name]

    def _write_rows(self, name: str, rows: _RowsDraft) -> _Chain:
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"rows_{uuid.uuid4().hex[:16]}.bin"
        try:
            with path.open("xb") as file:
                file.write(rows.heads.astype("<i8").tobytes())
                for piece in rows.pieces():
                    file.write(piece.data)
            mark = seal(path)
            sync_directory(self.directory)
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, ReplayMoved):
                self._hurry[name] = 8 * self._hurry.get(name, 1)
            raise
        self._hurry.pop(name, None)
        plan = rows.plan
        new = _Segment(path.name, mark, plan.count, plan.level, plan.most, plan.least)
        return _Chain((*plan.kept, new), rows.heads, rows.history, rows.writes)

    def _read_rows(
        self, segments: tuple[_Segment, ...], shape: list[int], used: int
    ) -> tuple[Array, Array]:
        """Return the slots `[num_envs, used, bytes]` of all rings, and the heads that they were left with."""
        num_envs, slots, row_bytes = shape
        paths = [unaltered_file(self.directory, one.name, one.mark) for one in segments]
        held = sum(path.stat().st_size for path in paths)
        # Before memory is taken: every slot that was used is in one of the files.
        if not 0 < used <= slots or min(shape) < 1 or num_envs * used * row_bytes > held:
            raise ValueError(f"{used} slots of {shape} cannot be in {held:,} bytes")
        # What lies beyond, and was never written, goes to a last one.
        ring = np.zeros((num_envs, used + 1, row_bytes), np.uint8)
        for path, segment in zip(paths, segments, strict=True):
            if segment.mark["size"] != num_envs * (8 + segment.count * row_bytes):
                raise ValueError(
                    f"{segment.name} must hold {segment.count} slots of {num_envs} rings"
                )
            with path.open("rb") as file:
                heads = np.frombuffer(file.read(8 * num_envs), "<i8").astype(np.int64)
                for start, stop in _chunks(0, segment.count, num_envs * row_bytes):
                    content = file.read((stop - start) * num_envs * row_bytes)
                    rows = np.frombuffer(content, np.uint8).reshape(-1, num_envs, row_bytes)
                    places = np.minimum(_slots(heads, start, stop, slots), used)
                    ring[np.arange(num_envs), places] = rows
        return ring[:, :used], heads


def _plan(chain: _Chain | None, storage: ReplayStorage) -> _Plan:
    """Say which slots a new segment takes, so that the ones kept beside it need no others."""
    slots, history = storage.layout.slots, storage.history
    if chain is None or not _goes_on(chain, history, slots):
        return _Plan((), min(slots, storage.used + 1), 0, 0, 0)
    last = chain.segments[-1]
    steps = (storage.heads - chain.heads) % slots
    most, least = last.most + int(steps.max()), last.least + int(steps.min())
    count, level = int(steps.max()) + storage.layout.n_step + 1, 0
    # What every environment has written over since is in no slot any more.
    kept = [one for one in chain.segments if least - one.least < slots]
    while [one.level for one in kept[1 - _SIBLINGS :]] == [level] * (_SIBLINGS - 1):
        first = kept[1 - _SIBLINGS]
        count, level = max(count, first.count + most - first.most), level + 1
        del kept[1 - _SIBLINGS :]
    if count >= slots:
        return _Plan((), slots, level, most, least)
    return _Plan(tuple(kept), count, level, most, least)


def _goes_on(chain: _Chain, history: RowHistory, slots: int) -> bool:
    """Whether a chain is of these rows, and no ring may have turned since."""
    is_of_it = chain.origin is history or chain.origin is history.loaded
    return is_of_it and history.writes - chain.writes < slots


def _chunks(start: int, stop: int, item_bytes: int) -> Iterator[tuple[int, int]]:
    """Divide [start, stop) into parts of some MB; the last ones come first."""
    step = max(1, _CHUNK_BYTES // item_bytes)
    for end in range(stop, start, -step):
        yield max(start, end - step), end


def _pages(shape: tuple[int, int, int]) -> Array:
    """Return zeros, uint8, on pages that go back to the system at once: allocators keep what is freed."""
    size = math.prod(shape)
    return np.frombuffer(mmap.mmap(-1, max(1, size)), np.uint8, size).reshape(shape)


def _slots(heads: Array, start: int, stop: int, slots: int) -> Array:
    """Return the slots `[n, num_envs]` that are [start, stop) behind the heads, the oldest first."""
    back = np.arange(stop - 1, start - 1, -1)[:, np.newaxis]
    found: Array = (heads - back) % slots
    return found


def _packed(name: str, array: Array) -> dict[str, Any]:
    """Return an array as bytes; a long one of two values, such as priorities never updated, as bits."""
    if not _DTYPE.fullmatch(array.dtype.str):
        raise ValueError(f"{name} must be numbers to be saved, got the dtype {array.dtype}")
    packed = {"dtype": array.dtype.str, "shape": array.shape}
    items = np.ascontiguousarray(array).reshape(-1)
    if items.size > _SMALL and array.dtype.itemsize in (1, 2, 4, 8):
        patterns = items.view(f"u{array.dtype.itemsize}")
        low, high = patterns.min(), patterns.max()
        bits = patterns == high
        if (bits | (patterns == low)).all():
            values = np.array([low, high]).view(np.uint8)
            return packed | {"values": values, "bits": np.packbits(bits)}
    return packed | {"bytes": items.view(np.uint8)}


def _unpacked(packed: dict[str, Any]) -> Array:
    if not _DTYPE.fullmatch(packed["dtype"]):
        raise ValueError(f"dtype must be one of numbers, got {packed['dtype']!r}")
    dtype, shape = np.dtype(packed["dtype"]), packed["shape"]
    if "bytes" in packed:
        return np.array(packed["bytes"].view(dtype).reshape(shape))
    low, high = packed["values"].view(dtype)
    bits = np.unpackbits(packed["bits"], count=int(np.prod(shape))).view(np.bool_)
    array = np.full(shape, low, dtype)
    array[bits.reshape(shape)] = high
    return array
