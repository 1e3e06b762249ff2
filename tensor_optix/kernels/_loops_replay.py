"""The loops of the numba replay ring: clean arrays come in, the ring or a batch is filled.

Step by step as `kernels/replay.hpp` and `kernels/replay_writing.hpp`, which explain the layout of a
slot and why each step is taken.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tensor_optix.kernels._loops import splitmix64

Array: TypeAlias = NDArray[Any]
jit: Callable[[Callable[..., Any]], Callable[..., Any]] = partial(
    njit, cache=True, error_model="numpy", nogil=True
)

# Numbers of a layout.
SLOTS, ROWS, STEPS, FRAMES, FRAME_BYTES, ACTION_BYTES, ACTION_AT, REWARD_AT = range(1, 9)
# Columns of a cursor.
HEAD, PENDING, WINDOW, ANNOUNCED, STAMP, START, USED = range(7)
# Counters.
READY, DROPPED, SIDE_FREE, INSERTED, REMOVED, CALLS = range(6)

DONE_FLAG, DROPPED_FLAG = 1, 2

_U32 = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


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
def _bounded(state: Array, bound: np.uint64) -> int:
    """Return an unbiased draw from [0, bound)."""
    state[0], word = splitmix64(state[0])
    product = (word >> _U32) * bound
    if (product & _LOW) < bound:
        threshold = ((_LOW - bound) + np.uint64(1)) % bound
        while (product & _LOW) < threshold:
            state[0], word = splitmix64(state[0])
            product = (word >> _U32) * bound
    return np.int64(product >> _U32)  # type: ignore[return-value]


@jit
def draw_loop(r: Ring, state: Array, indices: Array) -> None:
    """Fill `indices` with ready rows; advance `state`."""
    total = 0
    for env in range(len(r.cursors)):
        r.cursors[env, START] = total
        total += r.cursors[env, WINDOW]
    i = 0
    while i < len(indices):
        at = _bounded(state, np.uint64(total))
        env = np.searchsorted(r.cursors[:, START], at, side="right") - 1
        cursor = r.cursors[env]
        back = cursor[PENDING] + cursor[WINDOW] - (at - cursor[START])
        slot = slot_of(r, env, back)
        if r.halves[slot, steps_at(r) + 1] & DROPPED_FLAG == 0:
            indices[i] = slot
            i += 1


@jit
def _gather_stack(r: Ring, at: int, slot: int, output: Array) -> bool:
    for k in range(r.layout[FRAMES]):
        reference = r.words[slot, at + k]
        if not exists(r, reference):
            return False
        copy(frame_of(r, reference), part(r, output, k))
    return True


@jit
def gather_loop(r: Ring, indices: Array, out: Batch) -> int:
    """Fill the fields of a batch; return the number of the first row that is damaged."""
    action_at = r.layout[ACTION_AT]
    for i in range(len(indices)):
        slot = indices[i]
        if r.layout[FRAMES] == 1:
            copy(r.ring[slot, : r.layout[FRAME_BYTES]], out.observations[i])
        elif not _gather_stack(r, stack_at(r), slot, out.observations[i]):
            return i
        if not _gather_stack(r, next_at(r), slot, out.next_observations[i]):
            return i
        copy(r.ring[slot, action_at : action_at + r.layout[ACTION_BYTES]], out.actions[i])
        out.rewards[i] = r.sums[slot, r.layout[REWARD_AT] // 4]
        out.n_steps[i] = r.halves[slot, steps_at(r)]
        out.dones[i] = r.halves[slot, steps_at(r) + 1] & DONE_FLAG
    return len(indices)
