// What help() says about the replay ring's functions. The layout of a slot is in replay.hpp.
#pragma once

namespace tensor_optix::docs {

inline constexpr const char* kReplayExtend =
    "Write one transition of each of B environments to the ring.\n\n"
    "n-step sums are formed here: a row is committed when it has n_step rewards or its episode\n"
    "ends. A row with a sum that is not finite is never ready. An observation that is not the one\n"
    "announced (byte for byte) cuts the episode there.\n\n"
    "Args:\n"
    "    layout: [9] int64, (num_envs, slots, rows, n_step, frames, frame_bytes, action_bytes,\n"
    "        action_at, reward_at); slots >= rows + n_step + frames - 1.\n"
    "    ring: [num_envs * slots, slot_bytes] uint8, updated. Zeros at the start.\n"
    "    side: [E, frame_bytes] uint8, the frames that are in no slot, updated.\n"
    "    side_entries: [2, E] int32, the free list and the owning slots (-1: none), updated.\n"
    "    cursors: [num_envs, 8] int64, updated. Zeros at the start.\n"
    "    counters: [8] int64: ready rows, rows dropped, free side frames, rows inserted and rows\n"
    "        removed by this call, calls, updated. counters[2] is E at the start, all else 0.\n"
    "    changes: [2, M] int64, M at least B * n_step: the slots inserted, the slots removed\n"
    "        (a slot may be in both: it is removed then). Not written if M is 0.\n"
    "    observations, next_observations: B rows of frames * frame_bytes bytes, of any dtype.\n"
    "    actions: B rows of action_bytes bytes, of any dtype.\n"
    "    rewards: [B] float32.\n"
    "    terminated, truncated: [B] uint8 or bool.\n"
    "    env_ids: [B] int64, no two alike.\n"
    "    gamma: in [0, 1].\n"
    "    first: transitions before this one were written by calls before this one.\n\n"
    "Returns:\n"
    "    The number of the first transition that was not written: B, or less where fewer than\n"
    "    2 * frames side frames are free; call again with it as `first` and a larger `side`.";

inline constexpr const char* kReplayFlush =
    "Commit the pending rows of all environments with the rewards that they have.\n\n"
    "Args:\n"
    "    layout, ring, side, side_entries, cursors, counters, gamma: as in replay_extend.\n"
    "    changes: as in replay_extend, M at least num_envs * (n_step - 1), or 0.";

inline constexpr const char* kReplayDraw =
    "Draw ready rows, uniformly and with replacement (Lemire's bounded draw, splitmix64).\n\n"
    "Args:\n"
    "    layout, ring, cursors, counters: as in replay_extend.\n"
    "    state: [1] uint64, the generator's state, advanced.\n"
    "    indices: [B] int64, written.";

inline constexpr const char* kReplayGather =
    "Collect rows of the ring, all fields in one call.\n\n"
    "Args:\n"
    "    layout, ring, side: as in replay_extend.\n"
    "    indices: [B] int64. One outside [0, num_envs * slots) is an IndexError.\n"
    "    observations, next_observations: B rows of frames * frame_bytes bytes, written.\n"
    "    actions: B rows of action_bytes bytes, written.\n"
    "    rewards: [B] float32, the n-step sums, written.\n"
    "    dones: [B] uint8 or bool, whether the steps ended in a termination, written.\n"
    "    n_steps: [B] int32, the steps summed, written.";

}  // namespace tensor_optix::docs
