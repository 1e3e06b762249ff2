// The replay ring: how a slot is laid out, which rows are ready, how rows are drawn and collected.
//
// Every environment has `slots` slots in a ring and writes them in order. A slot holds, byte for
// byte, the newest frame of one observation, the action taken there, and a head:
//     float32 reward, int32 next[frames], int32 stack[frames] (only if frames > 1),
//     uint16 n_steps, uint16 flags
// A frame reference >= 0 is a slot, one below 0 is the side frame ~reference. `next` is the
// observation after the row's n steps, `stack` the row's own; with one frame that is the slot.
#pragma once

#include <cstring>

#include "minibatches.hpp"

namespace tensor_optix {

struct ReplayLayout {
    std::size_t envs, slots, rows, steps, frames, frame_bytes, action_bytes, action_at, reward_at;
    std::size_t slot_bytes;

    std::size_t total() const {
        return envs * slots;
    }
    std::size_t stack_at() const {
        return reward_at + 4 + (frames > 1 ? 4 * frames : 0);
    }
    std::size_t head_bytes() const {
        return stack_at() - reward_at + 4 * frames + 4;
    }
    std::size_t observation_bytes() const {
        return frames * frame_bytes;
    }
};

// What an environment has in its ring: `head` is the next slot to write. Before it lie `pending`
// rows that still collect rewards, and before those `window` committed rows.
struct ReplayCursor {
    std::int64_t head, pending, window;
    std::int64_t announced;  // 1 where slot `head` holds the next observation already
    std::int64_t stamp;      // the call that wrote last
    std::int64_t start;      // rows in the windows of the environments before; scratch of a draw
    std::int64_t used;       // slots ever written
    std::int64_t spare;
};

struct ReplayCounters {
    std::int64_t ready;      // rows that can be sampled
    std::int64_t dropped;    // rows ever refused for a reward that is not finite
    std::int64_t side_free;  // length of the free list
    std::int64_t inserted;   // rows made ready by the last call
    std::int64_t removed;    // and rows that left
    std::int64_t stamp;      // calls so far
    std::int64_t spare[2];
};

enum ReplayFlags : std::uint16_t { kReplayDone = 1, kReplayDropped = 2 };

// The arrays of a ring; `side` holds the frames that are in no slot.
struct ReplayStore {
    ReplayLayout layout;
    std::uint8_t* ring;
    std::uint8_t* side;
    std::size_t side_entries;
    ReplayCursor* cursors;
    ReplayCounters* counters;

    std::uint8_t* slot(std::size_t i) const {
        return ring + i * layout.slot_bytes;
    }
    std::uint8_t* action(std::size_t i) const {
        return slot(i) + layout.action_at;
    }
    float& reward(std::size_t i) const {
        return *reinterpret_cast<float*>(slot(i) + layout.reward_at);
    }
    std::int32_t* next(std::size_t i) const {
        return reinterpret_cast<std::int32_t*>(slot(i) + layout.reward_at + 4);
    }
    std::int32_t* stack(std::size_t i) const {
        return reinterpret_cast<std::int32_t*>(slot(i) + layout.stack_at());
    }
    std::uint16_t& n_steps(std::size_t i) const {
        return *reinterpret_cast<std::uint16_t*>(slot(i) + layout.reward_at + layout.head_bytes() -
                                                 4);
    }
    std::uint16_t& flags(std::size_t i) const {
        return *reinterpret_cast<std::uint16_t*>(slot(i) + layout.reward_at + layout.head_bytes() -
                                                 2);
    }

    // Null for a reference to nothing: the ring may have been read from a damaged file.
    const std::uint8_t* frame(std::int32_t reference) const {
        if (reference >= 0) {
            const std::size_t at = static_cast<std::size_t>(reference);
            return at < layout.total() ? slot(at) : nullptr;
        }
        const std::size_t entry = static_cast<std::size_t>(~reference);
        return entry < side_entries ? side + entry * layout.frame_bytes : nullptr;
    }
};

// B transitions, each field C-contiguous.
struct ReplayRows {
    const std::uint8_t* observations;
    const std::uint8_t* actions;
    const float* rewards;
    const std::uint8_t* next_observations;
    const std::uint8_t* terminated;
    const std::uint8_t* truncated;
    const std::int64_t* envs;
    std::size_t count;
};

// Which side frames are free, and the slot that each of the others belongs to.
struct ReplaySide {
    std::int32_t* free_list;
    std::int32_t* owners;
};

// The rows that become ready and those that leave, in order; both null, or with room for every row
// that a call can commit.
struct ReplayChanges {
    std::int64_t* inserted;
    std::int64_t* removed;
};

// The fields of a batch of `count` rows, each C-contiguous.
struct ReplayBatch {
    std::uint8_t* observations;
    std::uint8_t* actions;
    float* rewards;
    std::uint8_t* next_observations;
    std::uint8_t* dones;
    std::int32_t* n_steps;
};

namespace detail {

// The slot `back` slots before `position` of a ring (back <= slots).
TENSOR_OPTIX_INLINE std::size_t ring_before(std::int64_t position, std::int64_t back,
                                            std::size_t slots) {
    const std::int64_t at = position - back;
    return static_cast<std::size_t>(at < 0 ? at + static_cast<std::int64_t>(slots) : at);
}

TENSOR_OPTIX_INLINE void prefetch_range(const std::uint8_t* address, std::size_t bytes) {
    constexpr std::size_t line = 64, most = 6 * line;  // beyond, the hardware's stream takes over
    const std::size_t end = bytes < most ? bytes : most;
    for (std::size_t at = 0; at < end; at += line) TENSOR_OPTIX_PREFETCH(address + at);
}

// A row, and the observation after its n steps where it most often is; addresses past the end are
// only hints.
TENSOR_OPTIX_INLINE void prefetch_row(const ReplayStore& s, std::size_t slot) {
    const ReplayLayout& a = s.layout;
    const std::uint8_t* row = s.slot(slot);
    if (a.steps == 1) {
        prefetch_range(row, a.slot_bytes + a.frame_bytes + 63);
    } else {
        prefetch_range(row, a.slot_bytes + 63);
        prefetch_range(row + a.steps * a.slot_bytes, a.frame_bytes + 63);
    }
    TENSOR_OPTIX_PREFETCH(row + a.reward_at);
}

inline bool gather_stack(const ReplayStore& s, const std::int32_t* references,
                         std::uint8_t* output) {
    const std::size_t bytes = s.layout.frame_bytes;
    for (std::size_t k = 0; k < s.layout.frames; ++k) {
        const std::uint8_t* frame = s.frame(references[k]);
        if (frame == nullptr) return false;
        std::memcpy(output + k * bytes, frame, bytes);
    }
    return true;
}

// Sums the windows before each environment; returns the sum, and whether all windows are equal.
inline std::uint32_t sum_windows(const ReplayStore& s, bool& equal) {
    std::int64_t sum = 0;
    equal = true;
    for (std::size_t n = 0; n < s.layout.envs; ++n) {
        s.cursors[n].start = sum;
        sum += s.cursors[n].window;
        equal = equal && s.cursors[n].window == s.cursors[0].window;
    }
    return static_cast<std::uint32_t>(sum);
}

// The environment whose window holds row `at` of all windows laid end to end.
inline std::size_t env_of(const ReplayStore& s, std::int64_t at) {
    std::size_t low = 0, high = s.layout.envs;
    while (high - low > 1) {
        const std::size_t middle = (low + high) / 2;
        (s.cursors[middle].start <= at ? low : high) = middle;
    }
    return low;
}

}  // namespace detail

// Draws `count` ready rows, uniformly and with replacement. At least one row must be ready.
inline void replay_draw(const ReplayStore& s, std::uint64_t* state, std::int64_t* indices,
                        std::size_t count) noexcept {
    bool equal;
    const std::uint32_t total = detail::sum_windows(s, equal);
    const std::uint32_t each = static_cast<std::uint32_t>(s.cursors[0].window);
    const bool holes = s.counters->ready != static_cast<std::int64_t>(total);
    std::uint64_t words = *state;
    for (std::size_t i = 0; i < count;) {
        const std::uint32_t at = detail::bounded(words, total);
        const std::size_t env = equal ? at / each : detail::env_of(s, at);
        const ReplayCursor& c = s.cursors[env];
        const std::int64_t back = c.pending + c.window - (at - c.start);
        const std::size_t slot =
            env * s.layout.slots + detail::ring_before(c.head, back, s.layout.slots);
        if (holes && (s.flags(slot) & kReplayDropped) != 0) continue;
        indices[i++] = static_cast<std::int64_t>(slot);
    }
    *state = words;
}

// Collects rows; returns how many, less than `count` where a row refers to no frame at all. The
// indices are within bounds.
inline std::size_t replay_gather(const ReplayStore& s, const std::int64_t* indices,
                                 std::size_t count, const ReplayBatch& out) noexcept {
    const ReplayLayout& a = s.layout;
    const std::size_t ahead = a.slot_bytes > 1024 ? 2 : 12;  // rows: about a memory latency
    const std::size_t bytes = a.observation_bytes();
    for (std::size_t i = 0; i < count && i < ahead; ++i) detail::prefetch_row(s, indices[i]);
    for (std::size_t i = 0; i < count; ++i) {
        if (i + ahead < count) detail::prefetch_row(s, indices[i + ahead]);
        const std::size_t slot = static_cast<std::size_t>(indices[i]);
        bool known = true;
        if (a.frames == 1) {
            std::memcpy(out.observations + i * bytes, s.slot(slot), bytes);
        } else {
            known = detail::gather_stack(s, s.stack(slot), out.observations + i * bytes);
        }
        known = known && detail::gather_stack(s, s.next(slot), out.next_observations + i * bytes);
        if (!known) return i;
        std::memcpy(out.actions + i * a.action_bytes, s.action(slot), a.action_bytes);
        out.rewards[i] = s.reward(slot);
        out.n_steps[i] = s.n_steps(slot);
        out.dones[i] = s.flags(slot) & kReplayDone;
    }
    return count;
}

}  // namespace tensor_optix
