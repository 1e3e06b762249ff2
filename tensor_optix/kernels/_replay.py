"""Kernels of the replay ring: transitions come in, rows become ready, are drawn and collected.

`kernels/replay.hpp` says what a slot of the ring holds. All raise what the package says of its
arguments, ValueError too where arrays do not fit together; `Raises` names what comes on top.
"""

from typing import Any, NamedTuple

import numpy as np

from tensor_optix.kernels._backend import kernel, raw_functions
from tensor_optix.kernels._checks import (
    FLOAT32,
    INT32,
    INT64,
    MASK,
    UINT64,
    Arguments,
    Array,
    check_bounds,
    check_count,
    check_shape,
    check_unit,
)

_HEAD, _PENDING, _WINDOW, _ANNOUNCED, _STAMP = range(5)  # of a cursor
_READY, _DROPPED, _SIDE_FREE, _INSERTED, _REMOVED, _CALLS = range(6)  # of the counters
_WORDS = 8
_MOST_SLOTS = 0x7FFFFFFF

_raw = raw_functions("_loops_replay")


@kernel
def replay_extend(
    layout: Array,
    ring: Array,
    side: Array,
    side_entries: Array,
    cursors: Array,
    counters: Array,
    changes: Array,
    observations: Array,
    actions: Array,
    rewards: Array,
    next_observations: Array,
    terminated: Array,
    truncated: Array,
    env_ids: Array,
    gamma: float,
    first: int,
) -> int:
    """Write one transition of each of B environments to the ring.

    n-step sums are formed here: a row is committed when it has n_step rewards or its episode ends.
    A row with a sum that is not finite is never ready. An observation that is not the one announced
    (byte for byte) cuts the episode there.

    Args:
        layout: `[9]` int64, (num_envs, slots, rows, n_step, frames, frame_bytes, action_bytes,
            action_at, reward_at); slots >= rows + n_step + frames - 1.
        ring: `[num_envs * slots, slot_bytes]` uint8, updated. Zeros at the start.
        side: `[E, frame_bytes]` uint8, the frames that are in no slot, updated.
        side_entries: `[2, E]` int32, the free list and the owning slots (-1: none), updated.
        cursors: `[num_envs, 8]` int64, updated. Zeros at the start.
        counters: `[8]` int64: ready rows, rows dropped, free side frames, rows inserted and rows
            removed by this call, calls, updated. `counters[2]` is E at the start, all else 0.
        changes: `[2, M]` int64, M at least B * n_step: the slots inserted, the slots removed (a slot
            may be in both: it is removed then). Not written if M is 0.
        observations: B rows of frames * frame_bytes bytes, of any dtype.
        actions: B rows of action_bytes bytes, of any dtype.
        rewards: `[B]` float32.
        next_observations: as `observations`.
        terminated: `[B]` uint8 or bool.
        truncated: `[B]` uint8 or bool.
        env_ids: `[B]` int64, no two alike.
        gamma: in [0, 1].
        first: transitions before this one were written by calls before this one.

    Returns:
        The number of the first transition that was not written: B, or less where fewer than
        2 * frames side frames are free; call again with it as `first` and a larger `side`.
    """
    a = Arguments()
    n, ring = _check_ring(a, layout, ring, write=True)
    _check_cursors(a, n, cursors, counters)
    side = _check_written_side(a, n, side, side_entries, counters)
    a.write(INT64, "[2, M]", changes=changes)
    a.read(INT64, "[B]", env_ids=env_ids)
    count = len(env_ids)
    size = n.frames * n.frame_bytes
    [observations] = a.rows(count, size, observations=observations)
    [actions] = a.rows(count, n.action_bytes, actions=actions)
    a.read(FLOAT32, (count,), rewards=rewards)
    [next_observations] = a.rows(count, size, next_observations=next_observations)
    masks = a.read(MASK, (count,), terminated=terminated, truncated=truncated)
    a.check_disjoint()
    discount, start = check_unit("gamma", gamma), min(check_count("first", first, 0), count)
    _check_env_ids(n, env_ids, cursors, counters, start == 0)
    _check_room(changes, counters, (count - start) * n.n_step, start == 0)
    state = (layout, ring, side, side_entries, cursors, counters, changes)
    rows = (observations, actions, rewards, next_observations, *masks, env_ids)
    return int(_raw.replay_extend(*state, *rows, discount, start))


@kernel
def replay_flush(
    layout: Array,
    ring: Array,
    side: Array,
    side_entries: Array,
    cursors: Array,
    counters: Array,
    changes: Array,
    gamma: float,
) -> None:
    """Commit the pending rows of all environments with the rewards that they have.

    Args:
        layout: as in `replay_extend`, and so are all others but one.
        ring: updated.
        side: not changed.
        side_entries: not changed.
        cursors: updated.
        counters: updated.
        changes: `[2, M]` int64, M at least num_envs * (n_step - 1), or 0.
        gamma: in [0, 1].
    """
    a = Arguments()
    n, ring = _check_ring(a, layout, ring, write=True)
    _check_cursors(a, n, cursors, counters)
    side = _check_written_side(a, n, side, side_entries, counters)
    a.write(INT64, "[2, M]", changes=changes)
    a.check_disjoint()
    discount = check_unit("gamma", gamma)
    _check_room(changes, counters, n.num_envs * (n.n_step - 1), fresh=True)
    _check_states(n, cursors, np.arange(n.num_envs))
    state = (layout, ring, side, side_entries, cursors, counters, changes)
    _raw.replay_flush(*state, discount)


@kernel
def replay_draw(
    layout: Array, ring: Array, cursors: Array, counters: Array, state: Array, indices: Array
) -> None:
    """Draw ready rows, uniformly and with replacement (Lemire's bounded draw, splitmix64).

    Args:
        layout: as in `replay_extend`, and so are `ring`, `cursors` and `counters`.
        ring: not changed.
        cursors: a scratch column is written.
        counters: not changed.
        state: `[1]` uint64, the generator's state, advanced.
        indices: `[B]` int64, written.

    Raises:
        ValueError: no row is ready.
    """
    a = Arguments()
    n, ring = _check_ring(a, layout, ring, write=False)
    _check_cursors(a, n, cursors, counters)
    a.write(UINT64, (1,), state=state)
    a.write(INT64, "[B]", indices=indices)
    a.check_disjoint()
    _check_states(n, cursors, np.arange(n.num_envs))
    ready = counters[_READY]
    if not 0 < ready <= cursors[:, _WINDOW].sum():
        raise ValueError(f"counters must count the rows that are ready, at least one, got {ready}")
    _raw.replay_draw(layout, ring, cursors, counters, state, indices)


@kernel
def replay_gather(
    layout: Array,
    ring: Array,
    side: Array,
    indices: Array,
    observations: Array,
    actions: Array,
    rewards: Array,
    next_observations: Array,
    dones: Array,
    n_steps: Array,
) -> None:
    """Collect rows of the ring, all fields in one call.

    Args:
        layout: as in `replay_extend`.
        ring: as in `replay_extend`, not changed.
        side: as in `replay_extend`, not changed.
        indices: `[B]` int64.
        observations: B rows of frames * frame_bytes bytes, written.
        actions: B rows of action_bytes bytes, written.
        rewards: `[B]` float32, the n-step sums, written.
        next_observations: as `observations`, written.
        dones: `[B]` uint8 or bool, whether the steps ended in a termination, written.
        n_steps: `[B]` int32, the steps summed, written.

    Raises:
        IndexError: an index is outside [0, num_envs * slots).
        ValueError: the ring is damaged.
    """
    a = Arguments()
    n, ring = _check_ring(a, layout, ring, write=False)
    [side] = a.read(MASK, "[E, frame_bytes]", side=side)
    check_shape("side", side, (len(side), n.frame_bytes))
    a.read(INT64, "[B]", indices=indices)
    count, size = len(indices), n.frames * n.frame_bytes
    [observations] = a.rows(count, size, write=True, observations=observations)
    [actions] = a.rows(count, n.action_bytes, write=True, actions=actions)
    a.write(FLOAT32, (count,), rewards=rewards)
    [following] = a.rows(count, size, write=True, next_observations=next_observations)
    [dones] = a.write(MASK, (count,), dones=dones)
    a.write(INT32, (count,), n_steps=n_steps)
    a.check_disjoint()
    check_bounds("indices[", indices, len(ring))
    _check_references(n, ring, side, indices)
    batch = (observations, actions, rewards, following, dones, n_steps)
    _raw.replay_gather(layout, ring, side, indices, *batch)


class _Layout(NamedTuple):
    """The numbers of a ring's layout."""

    num_envs: int
    slots: int
    rows: int
    n_step: int
    frames: int
    frame_bytes: int
    action_bytes: int
    action_at: int
    reward_at: int

    @property
    def references(self) -> int:
        """The references to frames in a slot's head."""
        return self.frames * (2 if self.frames > 1 else 1)

    def fits(self, slot_bytes: int) -> bool:
        """Return whether a ring with such slots has this layout."""
        return (
            min(self[:5]) >= 1
            and min(self) >= 0
            and max(self) < 1 << 40
            and self.num_envs * self.slots <= _MOST_SLOTS
            and self.n_step <= 0xFFFF
            and self.slots + 1 >= self.rows + self.n_step + self.frames
            and self.action_at >= self.frame_bytes
            and self.reward_at >= self.action_at + self.action_bytes
            and self.reward_at % 4 == slot_bytes % 4 == 0
            and slot_bytes >= self.reward_at + 4 + 4 * self.references + 4
        )


def _check_ring(a: Arguments, layout: Any, ring: Any, write: bool) -> tuple[_Layout, Array]:
    """Return the layout, and the ring as uint8."""
    take = a.write if write else a.read
    [slots] = take(MASK, "[num_envs * slots, slot_bytes]", ring=ring)
    [numbers] = a.read(INT64, (len(_Layout._fields),), layout=layout)
    n = _Layout(*numbers.tolist())
    if not n.fits(slots.shape[1]):
        raise ValueError(
            "layout must be (num_envs, slots, rows, n_step, frames, frame_bytes, action_bytes, "
            f"action_at, reward_at) of a ring with shape {slots.shape}, got other numbers"
        )
    check_shape("ring", slots, (n.num_envs * n.slots, slots.shape[1]))
    if slots.ctypes.data % 4:
        raise ValueError("ring must be aligned to 4 bytes, got an unaligned view")
    return n, slots


def _check_cursors(a: Arguments, n: _Layout, cursors: object, counters: object) -> None:
    a.write(INT64, (n.num_envs, _WORDS), cursors=cursors)
    a.write(INT64, (_WORDS,), counters=counters)


def _check_written_side(
    a: Arguments, n: _Layout, side: Any, side_entries: Any, counters: Array
) -> Array:
    """Return the side frames as uint8."""
    [frames] = a.write(MASK, "[E, frame_bytes]", side=side)
    size = len(frames)
    check_shape("side", frames, (size, n.frame_bytes))
    a.write(INT32, (2, size), side_entries=side_entries)
    unused = int(counters[_SIDE_FREE])
    if not 0 <= unused <= size:
        raise ValueError(
            f"counters[2] must be the number of free side frames, in [0, {size}], got {unused}"
        )
    free = side_entries[0, :unused]
    if ((free < 0) | (free >= size)).any():
        raise ValueError("side_entries must list the free side frames, got other numbers")
    return frames


def _check_room(changes: Array, counters: Array, commits: int, fresh: bool) -> None:
    """Raise ValueError where a call might append more changes than there is room for."""
    if fresh:
        counters[[_INSERTED, _REMOVED]] = 0
    before = counters[[_INSERTED, _REMOVED]]
    if before.min() < 0:
        raise ValueError("counters must not be negative")
    room = int(before.max()) + commits
    if len(changes) != 2 or 0 < changes.shape[1] < room:
        raise ValueError(
            f"changes must have shape (2, M), M being 0 or at least {room}, got {changes.shape}"
        )


def _check_env_ids(n: _Layout, ids: Array, cursors: Array, counters: Array, fresh: bool) -> None:
    """Raise ValueError where an environment is unknown, comes twice, or has no sound cursor."""
    counters[_CALLS] += fresh
    stamp = counters[_CALLS]
    for i, env in enumerate(ids.tolist()):
        if not 0 <= env < n.num_envs:
            raise ValueError(f"env_ids[{i}] must be in [0, {n.num_envs}), got {env}")
        if fresh and cursors[env, _STAMP] == stamp:
            raise ValueError(f"env_ids[{i}] must be new in its call, got {env}")
        cursors[env, _STAMP] = stamp
    _check_states(n, cursors, ids)


def _check_states(n: _Layout, cursors: Array, envs: Array) -> None:
    """Raise ValueError where a cursor is no state of this ring."""
    c = cursors[envs].T
    bounds = {_HEAD: n.slots, _PENDING: n.n_step, _WINDOW: n.rows + 1, _ANNOUNCED: 2}
    sound = np.ones(len(envs), bool)
    for column, bound in bounds.items():
        sound &= (c[column] >= 0) & (c[column] < bound)
    some = c[_PENDING] + c[_WINDOW] > 0
    sound &= np.where(c[_ANNOUNCED] == 0, c[_PENDING] == 0, some)
    bad = np.flatnonzero(~sound)
    if bad.size:
        raise ValueError(f"cursors[{envs[bad[0]]}] must be a state of this ring")


def _check_references(n: _Layout, ring: Array, side: Array, indices: Array) -> None:
    """Raise ValueError where a slot refers to a frame that is not there."""
    first = n.reward_at // 4 + 1
    references = ring.view(np.int32)[:, first : first + n.references][indices]
    bad = ((references >= len(ring)) | (~references >= len(side))).any(axis=1)
    if bad.any():
        raise ValueError(
            "ring must refer to frames that it has, got a damaged row at index "
            f"{indices[bad.argmax()]}"
        )
