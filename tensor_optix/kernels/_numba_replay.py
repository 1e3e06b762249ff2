"""The numba replay ring: the functions of `kernels/bindings_replay.cpp`, same checks, same results.

Every function checks its arguments and runs a compiled loop (`_loops_replay.py`,
`_loops_replay_writing.py`). `kernels/replay.hpp` says what a slot of the ring holds.
"""

import numpy as np

from tensor_optix.kernels import _checks_replay as checks
from tensor_optix.kernels import _loops_replay as loops
from tensor_optix.kernels import _loops_replay_writing as writing
from tensor_optix.kernels._checks import (
    FLOAT32,
    INT32,
    INT64,
    MASK,
    UINT64,
    Array,
    check_array,
    check_disjoint,
    check_unit,
)

__all__ = ["replay_draw", "replay_extend", "replay_flush", "replay_gather"]


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

    Raises:
        TypeError: an argument is no array, or no number.
        ValueError: an array has the wrong dtype, layout or shape, or does not fit the others.
    """
    ring_ = _check_written(layout, ring, side, side_entries, cursors, counters)
    ids = check_array("env_ids", env_ids, INT64, "[B]")
    observation_bytes = int(ring_.layout[loops.FRAMES] * ring_.layout[loops.FRAME_BYTES])
    rows = writing.Rows(
        checks.check_rows("observations", observations, len(ids), observation_bytes),
        checks.check_rows("actions", actions, len(ids), int(ring_.layout[loops.ACTION_BYTES])),
        check_array("rewards", rewards, FLOAT32, ids.shape),
        checks.check_rows("next_observations", next_observations, len(ids), observation_bytes),
        check_array("terminated", terminated, MASK, ids.shape),
        check_array("truncated", truncated, MASK, ids.shape),
        ids,
    )
    for name, array in checks.state_of(ring_).items():
        check_disjoint({name: array}, rows._asdict())
    check_disjoint({"side_entries": ring_.entries}, rows._asdict())
    check_disjoint({"side": ring_.side}, rows._asdict())
    discount = check_unit("gamma", gamma)
    checks.check_env_ids(ring_, ids, fresh=first == 0)
    commits = max(len(ids) - first, 0) * int(ring_.layout[loops.STEPS])
    ring_ = checks.check_changes(ring_, changes, commits, fresh=first == 0)
    check_disjoint({"changes": changes}, rows._asdict())
    return int(writing.extend_loop(ring_, rows, discount, first))


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

    Raises:
        TypeError: an argument is no array, or no number.
        ValueError: an array has the wrong dtype, layout or shape, or does not fit the others.
    """
    ring_ = _check_written(layout, ring, side, side_entries, cursors, counters)
    discount = check_unit("gamma", gamma)
    commits = len(ring_.cursors) * (int(ring_.layout[loops.STEPS]) - 1)
    ring_ = checks.check_changes(ring_, changes, commits, fresh=True)
    checks.check_cursors(ring_, np.arange(len(ring_.cursors)))
    writing.flush_loop(ring_, discount)


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
        TypeError: an argument is no array.
        ValueError: an array has the wrong dtype, layout or shape, or no row is ready.
    """
    ring_ = checks.check_ring(layout, ring, cursors, counters, write=False)
    words = check_array("state", state, UINT64, (1,), write=True)
    out = check_array("indices", indices, INT64, "[B]", write=True)
    check_disjoint({"state": words, "indices": out}, checks.state_of(ring_))
    checks.check_cursors(ring_, np.arange(len(ring_.cursors)))
    ready, windows = ring_.counters[loops.READY], ring_.cursors[:, loops.WINDOW].sum()
    if not 0 < ready <= windows:
        raise ValueError(f"counters must count the rows that are ready, at least one, got {ready}")
    loops.draw_loop(ring_, words, out)


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
        TypeError: an argument is no array.
        ValueError: an array has the wrong dtype, layout or shape, or the ring is damaged.
    """
    ring_ = checks.check_side(checks.check_slots(layout, ring, write=False), side, write=False)
    wanted = check_array("indices", indices, INT64, "[B]")
    observation_bytes = int(ring_.layout[loops.FRAMES] * ring_.layout[loops.FRAME_BYTES])
    count, action_bytes = len(wanted), int(ring_.layout[loops.ACTION_BYTES])
    batch = loops.Batch(
        checks.check_rows("observations", observations, count, observation_bytes, write=True),
        checks.check_rows("actions", actions, count, action_bytes, write=True),
        check_array("rewards", rewards, FLOAT32, (count,), write=True),
        checks.check_rows(
            "next_observations", next_observations, count, observation_bytes, write=True
        ),
        check_array("dones", dones, MASK, (count,), write=True),
        check_array("n_steps", n_steps, INT32, (count,), write=True),
    )
    inputs = {"layout": layout, "ring": ring, "side": side, "indices": wanted}
    check_disjoint(dict(reversed(batch._asdict().items())), inputs)
    outside = np.flatnonzero((wanted < 0) | (wanted >= len(ring)))
    if outside.size:
        at = outside[0]
        raise IndexError(f"indices[{at}] must be in [0, {len(ring)}), got {wanted[at]}")
    gathered = loops.gather_loop(ring_, wanted, batch)
    if gathered < count:
        raise ValueError(
            f"ring must refer to frames that it has, got a damaged row at index {wanted[gathered]}"
        )


def _check_written(
    layout: Array, ring: Array, side: Array, side_entries: Array, cursors: Array, counters: Array
) -> loops.Ring:
    ring_ = checks.check_ring(layout, ring, cursors, counters, write=True)
    return checks.check_entries(checks.check_side(ring_, side, write=True), side_entries)
