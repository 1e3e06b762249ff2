"""Replay buffers in the files of a run's checkpoints: what has changed goes in, a whole state comes out.

    seg_<8 hex>.bin            slots of the rings as they were written, environment by environment
    small_<8 hex>.json, .safetensors    all the rest: cursors, final observations, priorities, generator

Files never change, and checkpoints share those of earlier ones. An entry in a checkpoint's manifest names all
that are needed, in order, with sizes and hashes.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.checkpoints.durable_files import matches, regular_file, seal, sync_directory
from tensor_optix.core.checkpoints.saved_state import read_state, reading, write_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tensor_optix.core.replay.storage import ReplayStorage
    from tensor_optix.core.replay_buffer import ReplayBuffer
    from tensor_optix.core.types import Array

MOST_SEGMENTS = 32
"""Of an entry; a buffer that would have more is written anew."""
SOON = 4096
SOON_BYTES = 2**24
"""Slots ahead of the heads that are copied at once, as they may be written over before they are read: so many
of each ring, but no more bytes in all."""
CHUNK_BYTES = 2**22
"""Read from a ring at a time."""
_RING = "ring"
_FILE = re.compile(r"(seg|small)_[0-9a-f]{8}\.(bin|json|safetensors)")


class ReplayMoved(RuntimeError):
    """The rows were written over before they were read; the next checkpoint has them."""


@dataclass
class _Chain:
    """What is in files of one storage."""

    segments: list[dict[str, Any]] = field(default_factory=list)
    storage: ReplayStorage | None = None
    loads: int = 0
    written: int = 0
    """Of the storage, when the last segment was drafted."""

    def fits(self, storage: ReplayStorage) -> bool:
        """Whether the storage went on from what the segments hold."""
        if len(self.segments) >= MOST_SEGMENTS or storage.written < self.written:
            return False
        if self.storage is None:
            # It took on the state that was read, and nothing else since.
            return bool(self.segments) and storage.loads == 1
        return self.storage is storage and self.loads == storage.loads


@dataclass
class ReplayDraft:
    """A buffer as it was between two windows, as far as it may change before it is written."""

    name: str
    small: dict[str, Array]
    storage: ReplayStorage | None
    loads: int = 0
    written: int = 0
    starts: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    """`[N]`, the first slot of each ring that is to be written."""
    count: int = 0
    """How many slots of each ring, in the order in which they were filled."""
    copied: dict[int, Array] = field(default_factory=dict)
    """`[N, k, bytes]` copies of slots, by how far behind the first one they begin."""


class ReplayFiles:
    """Writes and reads the replay buffers of one run.

    Args:
        directory: For the files; made by the first `write`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._chains: dict[str, _Chain] = {}

    def draft(self, name: str, buffer: ReplayBuffer) -> ReplayDraft:
        """Copy what of a buffer may change while it is written.

        Args:
            name: Of the buffer, the same each time.
            buffer: Itself; nobody writes to it meanwhile.
        """
        views = buffer.state_views()
        ring = views.pop(_RING, None)
        small = {key: np.array(array) for key, array in views.items()}
        storage = buffer.storage
        if ring is None or storage is None:
            return ReplayDraft(name, small, None)
        chain = self._chains.get(name)
        layout, used = storage.layout, ring.shape[1]
        count = used
        if chain is not None and chain.fits(storage):
            count = min(used, storage.written - chain.written + layout.n_step + 2)
        else:
            self._chains[name] = _Chain(storage=storage, loads=storage.loads)
        # The head itself holds the observation that was announced.
        starts = (storage.heads - count + 1) % layout.slots if used == layout.slots else None
        if starts is None:
            starts = np.maximum(np.minimum(storage.heads + 1, used) - count, 0)
        draft = ReplayDraft(name, small, storage, storage.loads, storage.written, starts, count)
        behind = min(count, layout.n_step + 2)
        draft.copied[count - behind] = _slots(storage, starts, count - behind, behind)
        if count + 2 * SOON > layout.slots:
            most = SOON_BYTES // (layout.num_envs * layout.slot.itemsize)
            draft.copied[0] = _slots(storage, starts, 0, min(count, SOON, 1 + most))
        return draft

    def write(self, draft: ReplayDraft) -> dict[str, Any]:
        """Bring what is new in a draft onto the disk; return the entry that names all files of the buffer.

        Raises:
            ReplayMoved: If rows were written over meanwhile.
            OSError: If the disk refuses.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        small = f"small_{uuid.uuid4().hex[:8]}"
        written: list[Path] = []
        try:
            write_state(self._directory / small, dict(draft.small))
            written += sorted(self._directory.glob(f"{small}.*"))
            segments: list[dict[str, Any]] = []
            if draft.storage is not None:
                chain = self._chains[draft.name]
                path = self._directory / f"seg_{uuid.uuid4().hex[:8]}.bin"
                written.append(path)
                segments = [*chain.segments, _write_segment(path, draft)]
                self._chains[draft.name] = _Chain(
                    segments, draft.storage, draft.loads, draft.written
                )
            files = {path.name: seal(path) for path in written if path.suffix != ".bin"}
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise
        sync_directory(self._directory)
        return {"small": small, "files": files, "segments": segments}

    def read(self, name: str, entry: Mapping[str, Any]) -> dict[str, Array]:
        """Return the state of a buffer, as `ReplayBuffer.load_state_dict` takes it.

        Args:
            name: Of the buffer; what is drafted under it from now on goes on from here.
            entry: What `write` returned.

        Raises:
            CheckpointError: If a file is missing or altered, or the entry makes no sense.
        """
        with reading(f"the replay {name}"):
            for file, mark in entry["files"].items():
                self._require(file, mark)
            state: dict[str, Array] = dict(read_state(self._directory / _checked(entry["small"])))
            segments = list(entry["segments"])
            if segments:
                state[_RING] = self._ring(state, segments)
            self._chains[name] = _Chain(segments)
            return state

    def remove_unused(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Delete the files that none of these entries names."""
        if not self._directory.is_dir():
            return
        used = {name for entry in entries for name in entry["files"]}
        used |= {one["name"] for entry in entries for one in entry["segments"]}
        for path in self._directory.iterdir():
            if _FILE.fullmatch(path.name) and path.name not in used:
                path.unlink(missing_ok=True)

    def _require(self, name: str, mark: dict[str, Any]) -> Path:
        path = regular_file(self._directory, name)
        if not matches(path, mark):
            raise ValueError(f"{name} is not what was written (size or SHA-256 differ)")
        return path

    def _ring(self, state: Mapping[str, Array], segments: Sequence[Mapping[str, Any]]) -> Array:
        """Return the slots of all rings, `[N, used, bytes]` uint8, from the segments in order."""
        row_bytes, slots = int(segments[-1]["row_bytes"]), int(segments[-1]["slots"])
        used = int(state["cursors"][:, _USED].max())
        envs = len(segments[-1]["starts"])
        held = sum(int(one["size"]) for one in segments)
        # Before memory is taken: every slot that was used is in one of the files.
        if not 0 < used <= slots or row_bytes < 1 or envs * used * row_bytes > held:
            raise ValueError(f"{used} slots of {envs} rings cannot be in {held:,} bytes")
        ring = np.zeros((envs, used, row_bytes), np.uint8)
        for one in segments:
            path = self._require(one["name"], {"size": one["size"], "sha256": one["sha256"]})
            shape = (envs, int(one["count"]), row_bytes)
            rows = np.fromfile(path, np.uint8).reshape(shape)
            for env, start in enumerate(one["starts"]):
                places = (int(start) + np.arange(shape[1])) % slots
                ring[env, places] = rows[env]
        return ring


_USED = 6
"""Where a cursor tells how many slots of its ring were ever used."""


def _checked(name: str) -> str:
    if not _FILE.fullmatch(f"{name}.json"):
        raise ValueError(f"{name!r} is no name of a file here")
    return name


def _slots(storage: ReplayStorage, starts: Array, behind: int, count: int) -> Array:
    """Return a copy of some slots of every ring, `[N, count, bytes]`, from so far behind the first ones."""
    places = (starts[:, np.newaxis] + behind + np.arange(count)) % storage.layout.slots
    return storage.ring[np.arange(len(starts))[:, np.newaxis], places]


def _write_segment(path: Path, draft: ReplayDraft) -> dict[str, Any]:
    """Write the slots of a draft; return what an entry says of them."""
    storage = draft.storage
    assert storage is not None
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for env in range(len(draft.starts)):
            for part in _parts(draft, storage, env):
                content = part.tobytes()
                digest.update(content)
                file.write(content)
                size += len(content)
        file.flush()
        os.fsync(file.fileno())
    return {
        "name": path.name,
        "size": size,
        "sha256": digest.hexdigest(),
        "starts": draft.starts.tolist(),
        "count": draft.count,
        "slots": storage.layout.slots,
        "row_bytes": storage.layout.slot.itemsize,
    }


def _parts(draft: ReplayDraft, storage: ReplayStorage, env: int) -> Iterator[Array]:
    """Yield the slots of one ring in order, those that were copied as they were then."""
    slots, row_bytes = storage.layout.slots, storage.layout.slot.itemsize
    at, start = 0, int(draft.starts[env])
    copies = sorted(draft.copied.items())
    for behind, copied in [*copies, (draft.count, None)]:
        while at < behind:
            count = min(behind - at, max(1, CHUNK_BYTES // row_bytes))
            places = (start + at + np.arange(count)) % slots
            part = storage.ring[env, places]
            # The head comes to the first of them after as many rows as are free between.
            left = slots - draft.count + at
            if storage.loads != draft.loads or storage.written - draft.written > left:
                raise ReplayMoved("the replay was written over while a checkpoint was made of it")
            yield part
            at += count
        if copied is not None and at < behind + copied.shape[1]:
            yield copied[env, at - behind :]
            at = behind + copied.shape[1]
