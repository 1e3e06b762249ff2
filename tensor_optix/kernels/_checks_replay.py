"""Argument checks of the numba replay ring: arguments come in, a `Ring` goes out.

The messages are those of the C++ extension: the argument, what it must be, what came.
"""

import numpy as np

from tensor_optix.kernels import _loops_replay as loops
from tensor_optix.kernels._checks import INT32, INT64, MASK, Array, check_array, check_disjoint

_NO_CHANGES = np.zeros((2, 0), np.int64)
_NO_SIDE = np.zeros((0, 0), np.uint8)
_NO_ENTRIES = np.zeros((2, 0), np.int32)
_NO_CURSORS = np.zeros((0, 8), np.int64)
_NO_COUNTERS = np.zeros(8, np.int64)
_MOST = 0x7FFFFFFF


def check_slots(layout: object, ring: object, write: bool) -> loops.Ring:
    """Return a ring without cursors, counters and side frames.

    Raises:
        TypeError: as `check_array`.
        ValueError: as `check_array`, or the layout is none of this ring.
    """
    slots = check_array("ring", ring, MASK, "[num_envs * slots, slot_bytes]", write)
    numbers = check_array("layout", layout, INT64, (9,))
    if not _fits(numbers, slots.shape[1]):
        raise ValueError(
            "layout must be (num_envs, slots, rows, n_step, frames, frame_bytes, action_bytes, "
            f"action_at, reward_at) of a ring with shape {slots.shape}, got other numbers"
        )
    expected = (int(numbers[0] * numbers[loops.SLOTS]), slots.shape[1])
    check_array("ring", slots, MASK, expected)
    if slots.ctypes.data % 4:
        raise ValueError("ring must be aligned to 4 bytes, got an unaligned view")
    words = [slots.view(dtype) for dtype in (np.int32, np.float32, np.uint16)]
    rest = (_NO_SIDE, _NO_ENTRIES, _NO_CURSORS, _NO_COUNTERS, _NO_CHANGES)
    return loops.Ring(numbers, slots, words[0], words[1], words[2], *rest)


def _fits(numbers: Array, slot_bytes: int) -> bool:
    if (numbers[:5] < 1).any() or (numbers < 0).any() or (numbers >= 1 << 40).any():
        return False
    envs, slots, rows, steps, frames, frame_bytes, action_bytes, action_at, reward_at = (
        numbers.tolist()
    )
    references = frames * (2 if frames > 1 else 1)
    return bool(
        envs * slots <= _MOST
        and steps <= 0xFFFF
        and slots + 1 >= rows + steps + frames
        and action_at >= frame_bytes
        and reward_at >= action_at + action_bytes
        and reward_at % 4 == slot_bytes % 4 == 0
        and slot_bytes >= reward_at + 4 + 4 * references + 4
    )


def check_ring(
    layout: object, ring: object, cursors: object, counters: object, write: bool
) -> loops.Ring:
    """Return a ring with its cursors and counters; raises as `check_slots`."""
    checked = check_slots(layout, ring, write)
    c = check_array("cursors", cursors, INT64, (int(checked.layout[0]), 8), write=True)
    k = check_array("counters", counters, INT64, (8,), write=True)
    inputs = {"layout": checked.layout, "ring": checked.ring}
    check_disjoint({"counters": k, "cursors": c}, inputs)
    return checked._replace(cursors=c, counters=k)


def check_side(ring: loops.Ring, side: object, write: bool) -> loops.Ring:
    """Return the ring with its side frames; raises as `check_array`."""
    frames = check_array("side", side, MASK, "[E, frame_bytes]", write)
    check_array("side", frames, MASK, (len(frames), int(ring.layout[loops.FRAME_BYTES])))
    return ring._replace(side=frames)


def check_entries(ring: loops.Ring, entries: object) -> loops.Ring:
    """Return the ring with the list of its free side frames and their owners.

    Raises:
        TypeError: as `check_array`.
        ValueError: as `check_array` and `check_disjoint`, or the list does not fit the frames.
    """
    size = len(ring.side)
    e = check_array("side_entries", entries, INT32, (2, size), write=True)
    check_disjoint({"side_entries": e, "side": ring.side}, state_of(ring))
    unused = int(ring.counters[loops.SIDE_FREE])
    if not 0 <= unused <= size:
        raise ValueError(
            f"counters[2] must be the number of free side frames, in [0, {size}], got {unused}"
        )
    if ((e[0, :unused] < 0) | (e[0, :unused] >= size)).any():
        raise ValueError("side_entries must list the free side frames, got other numbers")
    return ring._replace(entries=e)


def check_changes(ring: loops.Ring, changes: object, commits: int, fresh: bool) -> loops.Ring:
    """Return the ring with room for the rows that a call changes.

    Raises:
        TypeError: as `check_array`.
        ValueError: as `check_array` and `check_disjoint`, or there is too little room.
    """
    if fresh:
        ring.counters[[loops.INSERTED, loops.REMOVED]] = 0
    before = ring.counters[[loops.INSERTED, loops.REMOVED]]
    if before.min() < 0:
        raise ValueError("counters must not be negative")
    room = int(before.max()) + commits
    c = check_array("changes", changes, INT64, "[2, M]", write=True)
    if len(c) != 2 or 0 < c.shape[1] < room:
        raise ValueError(
            f"changes must have shape (2, M), M being 0 or at least {room}, got {c.shape}"
        )
    others = state_of(ring) | {"layout": ring.layout, "side_entries": ring.entries}
    check_disjoint({"changes": c}, others | {"side": ring.side})
    return ring._replace(changes=c)


def check_rows(name: str, field: object, count: int, row_bytes: int, write: bool = False) -> Array:
    """Return a field of `count` rows of any dtype as bytes `[count, row_bytes]`.

    Raises:
        TypeError: as `check_array`.
        ValueError: as `check_array`, or the rows have another size.
    """
    array = check_array(name, field, None, None, write)
    if array.ndim == 0 or len(array) != count or array.nbytes != count * row_bytes:
        raise ValueError(
            f"{name} must have shape [{count}, ...] with {row_bytes} bytes a row, got {array.shape}"
        )
    return array.reshape(-1).view(np.uint8).reshape(count, row_bytes)


def check_env_ids(ring: loops.Ring, ids: Array, fresh: bool) -> None:
    """Raise ValueError where an environment is unknown, comes twice, or has no sound cursor."""
    ring.counters[loops.CALLS] += fresh
    stamp = ring.counters[loops.CALLS]
    for i, env in enumerate(ids.tolist()):
        if not 0 <= env < len(ring.cursors):
            raise ValueError(f"env_ids[{i}] must be in [0, {len(ring.cursors)}), got {env}")
        if fresh and ring.cursors[env, loops.STAMP] == stamp:
            raise ValueError(f"env_ids[{i}] must be new in its call, got {env}")
        ring.cursors[env, loops.STAMP] = stamp
    check_cursors(ring, ids)


def check_cursors(ring: loops.Ring, envs: Array) -> None:
    """Raise ValueError where a cursor is no state of this ring."""
    c = ring.cursors[envs].T
    a = ring.layout
    bounds = {
        loops.HEAD: a[loops.SLOTS],
        loops.PENDING: a[loops.STEPS],
        loops.WINDOW: a[loops.ROWS] + 1,
        loops.ANNOUNCED: 2,
    }
    sound = np.ones(len(envs), bool)
    for column, bound in bounds.items():
        sound &= (c[column] >= 0) & (c[column] < bound)
    some = c[loops.PENDING] + c[loops.WINDOW] > 0
    sound &= np.where(c[loops.ANNOUNCED] == 0, c[loops.PENDING] == 0, some)
    bad = np.flatnonzero(~sound)
    if bad.size:
        raise ValueError(f"cursors[{envs[bad[0]]}] must be a state of this ring")


def state_of(ring: loops.Ring) -> dict[str, Array]:
    """Return the arrays of every ring that a call may write to, by name."""
    return {"ring": ring.ring, "cursors": ring.cursors, "counters": ring.counters}
