"""The raw functions of the replay ring in numba: checked arrays come in, the ring or a batch is filled.

Step by step as `kernels/replay.hpp` and `kernels/replay_writing.hpp`, which explain the layout of a
slot and why each step is taken.
"""

from typing import Any, NamedTuple

import numpy as np

from tensor_optix.kernels._loops import Array, bounded, jit

# Numbers of a layout.
SLOTS, ROWS, STEPS, FRAMES, FRAME_BYTES, ACTION_BYTES, ACTION_AT, REWARD_AT = range(1, 9)
# Columns of a cursor.
HEAD, PENDING, WINDOW, ANNOUNCED, STAMP, START, USED = range(7)
# Counters.
READY, DROPPED, SIDE_FREE, INSERTED, REMOVED, CALLS = range(6)

DONE_FLAG, DROPPED_FLAG = 1, 2

_NO_SIDE = np.zeros((0, 0), np.uint8)
_NO_ENTRIES = np.zeros((2, 0), np.int32)
_NO_CURSORS = np.zeros((0, 8), np.int64)
_NO_COUNTERS = np.zeros(8, np.int64)
_NO_CHANGES = np.zeros((2, 0), np.int64)


class Ring(NamedTuple):
    """The arrays of a ring; `words`, `sums` and `halves` are `ring` seen as other dtypes."""

    layout: Array
    ring: Array
    words: Array
    sums: Array
    halves: Array
    side: Array
    entries: Array
    cursors: Array
    counters: Array
    changes: Array


class Rows(NamedTuple):
    """B transitions; observations and actions as `[B, bytes]` uint8."""

    observations: Array
    actions: Array
    rewards: Array
    next_observations: Array
    terminated: Array
    truncated: Array
    env_ids: Array


class Batch(NamedTuple):
    """The fields that `gather` fills; observations and actions as `[B, bytes]` uint8."""

    observations: Array
    actions: Array
    rewards: Array
    next_observations: Array
    dones: Array
    n_steps: Array


@jit
def next_at(r: Ring) -> int:
    """Return where a slot's references to the next observation are, in words."""
    return r.layout[REWARD_AT] // 4 + 1  # type: ignore[no-any-return]


@jit
def stack_at(r: Ring) -> int:
    frames = r.layout[FRAMES]
    return next_at(r) + (frames if frames > 1 else 0)  # type: ignore[no-any-return]


@jit
def steps_at(r: Ring) -> int:
    """Return where a slot's number of steps is, in half words; its flags come after."""
    return 2 * (stack_at(r) + r.layout[FRAMES])  # type: ignore[no-any-return]


@jit
def stack_of(r: Ring, slot: int, k: int) -> int:
    """Return the reference to frame `k` of the observation at `slot`."""
    return r.words[slot, stack_at(r) + k] if r.layout[FRAMES] > 1 else slot


@jit
def slot_of(r: Ring, env: int, back: int) -> int:
    position = r.cursors[env, HEAD] - back
    return env * r.layout[SLOTS] + (position + r.layout[SLOTS] if position < 0 else position)  # type: ignore[no-any-return]


@jit
def exists(r: Ring, reference: int) -> bool:
    return reference < len(r.ring) if reference >= 0 else ~reference < len(r.side)


@jit
def frame_of(r: Ring, reference: int) -> Array:
    size = r.layout[FRAME_BYTES]
    return r.ring[reference, :size] if reference >= 0 else r.side[~reference, :size]


@jit
def copy(source: Array, output: Array) -> None:
    for b in range(len(output)):
        output[b] = source[b]


@jit
def part(r: Ring, observation: Array, k: int) -> Array:
    """Return frame `k` of an incoming observation."""
    size = r.layout[FRAME_BYTES]
    return observation[k * size : (k + 1) * size]


@jit
def _draw(r: Ring, state: Array, indices: Array) -> None:
    """Fill `indices` with ready rows; advance `state`."""
    total = 0
    for env in range(len(r.cursors)):
        r.cursors[env, START] = total
        total += r.cursors[env, WINDOW]
    i = 0
    while i < len(indices):
        at = bounded(state, np.uint64(total))
        env = np.searchsorted(r.cursors[:, START], at, side="right") - 1
        cursor = r.cursors[env]
        back = cursor[PENDING] + cursor[WINDOW] - (at - cursor[START])
        slot = slot_of(r, env, back)
        if r.halves[slot, steps_at(r) + 1] & DROPPED_FLAG == 0:
            indices[i] = slot
            i += 1


@jit
def _gather_stack(r: Ring, at: int, slot: int, output: Array) -> None:
    for k in range(r.layout[FRAMES]):
        copy(frame_of(r, r.words[slot, at + k]), part(r, output, k))


@jit
def _gather(r: Ring, indices: Array, out: Batch) -> None:
    action_at = r.layout[ACTION_AT]
    for i in range(len(indices)):
        slot = indices[i]
        if r.layout[FRAMES] == 1:
            copy(r.ring[slot, : r.layout[FRAME_BYTES]], out.observations[i])
        else:
            _gather_stack(r, stack_at(r), slot, out.observations[i])
        _gather_stack(r, next_at(r), slot, out.next_observations[i])
        copy(r.ring[slot, action_at : action_at + r.layout[ACTION_BYTES]], out.actions[i])
        out.rewards[i] = r.sums[slot, r.layout[REWARD_AT] // 4]
        out.n_steps[i] = r.halves[slot, steps_at(r)]
        out.dones[i] = r.halves[slot, steps_at(r) + 1] & DONE_FLAG


@jit
def _equal(a: Array, b: Array) -> bool:
    for k in range(len(a)):  # noqa: SIM110 (numba compiles no all() of a generator)
        if a[k] != b[k]:
            return False
    return True


@jit
def _same(r: Ring, reference: int, frame: Array) -> bool:
    return exists(r, reference) and _equal(frame_of(r, reference), frame)  # type: ignore[no-any-return]


@jit
def _holds(r: Ring, slot: int, observation: Array) -> bool:
    for k in range(r.layout[FRAMES] - 1, -1, -1):
        if not _same(r, stack_of(r, slot, k), part(r, observation, k)):
            return False
    return True


@jit
def _owned(r: Ring, reference: int, slot: int) -> bool:
    if reference >= 0 or ~reference >= len(r.side):
        return False
    return r.entries[1, ~reference] == slot  # type: ignore[no-any-return]


@jit
def _put_aside(r: Ring, owner: int, frame: Array) -> int:
    r.counters[SIDE_FREE] -= 1
    entry = r.entries[0, r.counters[SIDE_FREE]]
    r.entries[1, entry] = owner
    copy(frame, r.side[entry])
    return ~entry  # type: ignore[no-any-return]


@jit
def _release(r: Ring, slot: int) -> None:
    """Free the side frames that belong to a slot."""
    first, frames = next_at(r), r.layout[FRAMES]
    for at in range(first, first + frames * (2 if frames > 1 else 1)):
        reference = r.words[slot, at]
        if _owned(r, reference, slot):
            r.entries[1, ~reference] = -1
            r.entries[0, r.counters[SIDE_FREE]] = ~reference
            r.counters[SIDE_FREE] += 1
    r.words[slot, first : first + frames] = 0


@jit
def _put_older(r: Ring, at: int, slot: int, past: int, observation: Array) -> None:
    """Write the references to all frames but the newest; `past` is -1 where there is none."""
    newest = r.layout[FRAMES] - 1
    for k in range(newest - 1, -1, -1):
        frame = part(r, observation, k)
        if past >= 0 and _same(r, stack_of(r, past, k + 1), frame):
            r.words[slot, at + k] = stack_of(r, past, k + 1)
            continue
        j = k + 1
        while j <= newest and not _equal(part(r, observation, j), frame):
            j += 1
        r.words[slot, at + k] = r.words[slot, at + j] if j <= newest else _put_aside(r, slot, frame)


@jit
def _put(r: Ring, slot: int, past: int, observation: Array) -> None:
    """Write an observation to a slot: its newest frame there, the older ones where they are."""
    _release(r, slot)
    newest = r.layout[FRAMES] - 1
    copy(part(r, observation, newest), r.ring[slot, : r.layout[FRAME_BYTES]])
    if newest > 0:
        r.words[slot, stack_at(r) + newest] = slot
        _put_older(r, stack_at(r), slot, past, observation)


@jit
def _discounted(r: Ring, env: int, steps: int, gamma: float) -> np.float32:
    at = r.layout[REWARD_AT] // 4
    pending = r.cursors[env, PENDING]
    if steps == 1:
        return r.sums[slot_of(r, env, pending), at]  # type: ignore[no-any-return]
    total, weight = 0.0, 1.0
    for k in range(steps):
        total += weight * np.float64(r.sums[slot_of(r, env, pending - k), at])
        weight *= gamma
    return np.float32(total)


@jit
def _leave(r: Ring, slot: int) -> None:
    if r.halves[slot, steps_at(r) + 1] & DROPPED_FLAG:
        return
    r.counters[READY] -= 1
    if r.changes.shape[1] > 0:
        r.changes[1, r.counters[REMOVED]] = slot
        r.counters[REMOVED] += 1


@jit
def _commit(r: Ring, env: int, steps: int, flags: int, gamma: float) -> None:
    """Sum the rewards of the oldest pending row and make it ready."""
    cursor = r.cursors[env]
    slot = slot_of(r, env, cursor[PENDING])
    total = _discounted(r, env, steps, gamma)
    finite = np.isfinite(total)
    if cursor[WINDOW] == r.layout[ROWS]:
        _leave(r, slot_of(r, env, cursor[PENDING] + cursor[WINDOW]))
    else:
        cursor[WINDOW] += 1
    cursor[PENDING] -= 1
    r.sums[slot, r.layout[REWARD_AT] // 4] = total
    r.halves[slot, steps_at(r)] = steps
    r.halves[slot, steps_at(r) + 1] = flags if finite else flags | DROPPED_FLAG
    r.counters[READY if finite else DROPPED] += 1
    if finite and r.changes.shape[1] > 0:
        r.changes[0, r.counters[INSERTED]] = slot
        r.counters[INSERTED] += 1


@jit
def _flush_env(r: Ring, env: int, gamma: float) -> None:
    """Commit an environment's pending rows with the rewards that they have."""
    announced, at = slot_of(r, env, 0), next_at(r)
    while r.cursors[env, PENDING] > 0:
        pending = r.cursors[env, PENDING]
        slot = slot_of(r, env, pending)
        for k in range(r.layout[FRAMES]):
            r.words[slot, at + k] = stack_of(r, announced, k)
        _commit(r, env, pending, 0, gamma)


@jit
def _keep(r: Ring, k: int, head: int, last: int) -> int:
    """Return frame `k` of the stack at `head`, made to belong to `last` and to outlive `head`."""
    reference = stack_of(r, head, k)
    for j in range(k):
        if stack_of(r, head, j) == reference:
            return r.words[last, next_at(r) + j]  # type: ignore[no-any-return]
    if reference == head:
        return _put_aside(r, last, r.ring[head, : r.layout[FRAME_BYTES]])  # type: ignore[no-any-return]
    if _owned(r, reference, head):
        r.entries[1, ~reference] = last
    return reference  # type: ignore[no-any-return]


@jit
def _cut(r: Ring, env: int, gamma: float) -> None:
    """Keep the announced observation aside, for every row whose steps end there."""
    _flush_env(r, env, gamma)
    head, last = slot_of(r, env, 0), slot_of(r, env, 1)
    at, frames = next_at(r), r.layout[FRAMES]
    for k in range(frames):
        r.words[last, at + k] = _keep(r, k, head, last)
    for back in range(2, min(r.cursors[env, WINDOW], r.layout[STEPS]) + 1):
        slot = slot_of(r, env, back)
        if r.halves[slot, steps_at(r)] == back:
            r.words[slot, at : at + frames] = r.words[last, at : at + frames]
    r.cursors[env, ANNOUNCED] = 0


@jit
def _end(r: Ring, env: int, slot: int, observation: Array, flags: int, gamma: float) -> None:
    """Commit all rows of an episode that ended; its final observation goes aside."""
    at, frames = next_at(r), r.layout[FRAMES]
    r.words[slot, at + frames - 1] = _put_aside(r, slot, part(r, observation, frames - 1))
    _put_older(r, at, slot, slot, observation)
    while r.cursors[env, PENDING] > 0:
        pending = r.cursors[env, PENDING]
        row = slot_of(r, env, pending)
        r.words[row, at : at + frames] = r.words[slot, at : at + frames]
        _commit(r, env, pending, flags, gamma)


@jit
def _announce(r: Ring, env: int, slot: int, observation: Array, gamma: float) -> None:
    """Write the next observation to where the next row will be."""
    head, pending = slot_of(r, env, 0), r.cursors[env, PENDING]
    full = pending == r.layout[STEPS]
    oldest = slot_of(r, env, pending)
    if full:
        _commit(r, env, pending, 0, gamma)
    _put(r, head, slot, observation)
    if full:
        for k in range(r.layout[FRAMES]):
            r.words[oldest, next_at(r) + k] = stack_of(r, head, k)


@jit
def _write(r: Ring, rows: Rows, i: int, gamma: float) -> None:
    env = rows.env_ids[i]
    cursor = r.cursors[env]
    slot = slot_of(r, env, 0)
    if cursor[ANNOUNCED] != 0 and not _holds(r, slot, rows.observations[i]):
        _cut(r, env, gamma)
    if cursor[ANNOUNCED] == 0:
        has_past = cursor[WINDOW] + cursor[PENDING] > 0
        _put(r, slot, slot_of(r, env, 1) if has_past else -1, rows.observations[i])
    action_at = r.layout[ACTION_AT]
    copy(rows.actions[i], r.ring[slot, action_at : action_at + r.layout[ACTION_BYTES]])
    r.sums[slot, r.layout[REWARD_AT] // 4] = rows.rewards[i]
    r.halves[slot, steps_at(r) + 1] = 0
    ended = rows.terminated[i] != 0 or rows.truncated[i] != 0
    touched = cursor[HEAD] + (1 if ended else 2)
    cursor[USED] = max(cursor[USED], min(touched, r.layout[SLOTS]))
    cursor[HEAD] = cursor[HEAD] + 1 if cursor[HEAD] + 1 < r.layout[SLOTS] else 0
    cursor[PENDING] += 1
    cursor[ANNOUNCED] = 0 if ended else 1
    if ended:
        flags = DONE_FLAG if rows.terminated[i] != 0 else 0
        _end(r, env, slot, rows.next_observations[i], flags, gamma)
    else:
        _announce(r, env, slot, rows.next_observations[i], gamma)


@jit
def _extend(r: Ring, rows: Rows, gamma: float, first: int) -> int:
    """Write transitions; return the number of the first that the side frames did not suffice for."""
    for i in range(first, len(rows.env_ids)):
        if r.counters[SIDE_FREE] < 2 * r.layout[FRAMES]:
            return i
        _write(r, rows, i, gamma)
    return len(rows.env_ids)


@jit
def _flush(r: Ring, gamma: float) -> None:
    """Commit the pending rows of all environments."""
    for env in range(len(r.cursors)):
        _flush_env(r, env, gamma)


def _ring(
    layout: Array,
    ring: Array,
    side: Array = _NO_SIDE,
    entries: Array = _NO_ENTRIES,
    cursors: Array = _NO_CURSORS,
    counters: Array = _NO_COUNTERS,
    changes: Array = _NO_CHANGES,
) -> Ring:
    words, sums, halves = ring.view(np.int32), ring.view(np.float32), ring.view(np.uint16)
    return Ring(layout, ring, words, sums, halves, side, entries, cursors, counters, changes)


def replay_extend(*arguments: Any) -> int:
    """Write transitions; return the number of the first that the side frames did not suffice for."""
    *arrays, gamma, first = arguments
    return _extend(_ring(*arrays[:7]), Rows(*arrays[7:]), gamma, first)  # type: ignore[no-any-return]


def replay_flush(*arguments: Any) -> None:
    """Commit the pending rows of all environments."""
    *arrays, gamma = arguments
    _flush(_ring(*arrays), gamma)


def replay_draw(
    layout: Array, ring: Array, cursors: Array, counters: Array, state: Array, indices: Array
) -> None:
    """Fill `indices` with ready rows; advance `state`."""
    _draw(_ring(layout, ring, cursors=cursors, counters=counters), state, indices)


def replay_gather(layout: Array, ring: Array, side: Array, indices: Array, *batch: Array) -> None:
    """Fill the fields of a batch."""
    _gather(_ring(layout, ring, side), indices, Batch(*batch))
