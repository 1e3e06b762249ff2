// Writing to the replay ring (see replay.hpp): transitions come in, rows become ready.
//
// Every observation is stored once: the next observation of a row is written where the next row
// will be. Where that row never comes, after an end or where another observation follows, it is
// kept in side frames. A side frame belongs to a slot and is freed when the slot is written again.
#pragma once

#include <algorithm>
#include <cmath>

#include "replay.hpp"

namespace tensor_optix {

// One ring while it is written.
class ReplayWriter {
  public:
    ReplayWriter(const ReplayStore& store, ReplaySide side, ReplayChanges changes, double gamma)
        : s_(store), side_(side), changes_(changes), gamma_(gamma) {}

    // Whether the free list did not fit the side frames.
    bool damaged() const {
        return damaged_;
    }

    // Writes the transitions from `first` on; returns the number of the first that was not written,
    // for want of side frames. One transition takes 2 * frames of them at most.
    std::size_t extend(const ReplayRows& rows, std::size_t first) {
        for (std::size_t i = first; i < rows.count; ++i) {
            if (s_.counters->side_free < static_cast<std::int64_t>(2 * s_.layout.frames)) return i;
            if (i + kAhead < rows.count) prefetch_head(rows.envs[i + kAhead]);
            write(rows, i);
        }
        return rows.count;
    }

    // Commits the pending rows with the rewards that they have.
    void flush(std::size_t env) {
        ReplayCursor& c = s_.cursors[env];
        const std::size_t announced = slot_of(env, c, 0);
        while (c.pending > 0) {
            std::memcpy(s_.next(slot_of(env, c, c.pending)), stack_of(announced), stack_bytes());
            commit(env, c, static_cast<std::size_t>(c.pending), 0);
        }
    }

  private:
    static constexpr std::size_t kAhead = 4;  // transitions

    std::size_t slot_of(std::size_t env, const ReplayCursor& c, std::int64_t back) const {
        return env * s_.layout.slots + detail::ring_before(c.head, back, s_.layout.slots);
    }

    std::size_t stack_bytes() const {
        return 4 * s_.layout.frames;
    }

    // Inlined by force: GCC takes a function that only prefetches for one without any effect, and
    // drops the calls.
    TENSOR_OPTIX_INLINE void prefetch_head(std::int64_t env) const {
        const ReplayCursor& c = s_.cursors[env];
        const std::uint8_t* slot = s_.slot(slot_of(static_cast<std::size_t>(env), c, 0));
        detail::prefetch_range(slot, 2 * s_.layout.slot_bytes + 63);
        TENSOR_OPTIX_PREFETCH(slot + s_.layout.reward_at);
        // What the next call needs, too: across many rings the hardware loses track of the streams.
        if (s_.layout.slot_bytes <= 256)
            detail::prefetch_range(slot + 2 * s_.layout.slot_bytes, s_.layout.slot_bytes + 63);
    }

    void write(const ReplayRows& rows, std::size_t i) {
        const ReplayLayout& a = s_.layout;
        const std::size_t env = static_cast<std::size_t>(rows.envs[i]);
        ReplayCursor& c = s_.cursors[env];
        const std::size_t slot = slot_of(env, c, 0);
        const std::uint8_t* observation = rows.observations + i * a.observation_bytes();
        if (c.announced != 0 && !holds(slot, observation)) cut(env, c);
        if (c.announced == 0) {
            const bool has_past = c.window + c.pending > 0;
            put(slot, has_past ? slot_of(env, c, 1) : slot, has_past, observation);
        }
        std::memcpy(s_.action(slot), rows.actions + i * a.action_bytes, a.action_bytes);
        s_.reward(slot) = rows.rewards[i];
        s_.flags(slot) = 0;
        const bool terminated = rows.terminated[i] != 0;
        const bool ended = terminated || rows.truncated[i] != 0;
        advance(env, c, slot, ended);
        const std::uint8_t* next = rows.next_observations + i * a.observation_bytes();
        if (ended) {
            end(env, c, slot, next, terminated);
        } else {
            announce(env, c, slot, next);
        }
    }

    void advance(std::size_t env, ReplayCursor& c, std::size_t slot, bool ended) const {
        const std::size_t position = slot - env * s_.layout.slots + 1;
        c.head = static_cast<std::int64_t>(position == s_.layout.slots ? 0 : position);
        c.pending += 1;
        c.announced = ended ? 0 : 1;
        const std::int64_t touched = static_cast<std::int64_t>(position) + c.announced;
        const std::int64_t most = static_cast<std::int64_t>(s_.layout.slots);
        c.used = std::max(c.used, std::min(touched, most));
    }

    // The episode goes on: the row that now has all its rewards is committed.
    void announce(std::size_t env, ReplayCursor& c, std::size_t slot, const std::uint8_t* next) {
        const std::size_t head = slot_of(env, c, 0);
        if (c.pending < static_cast<std::int64_t>(s_.layout.steps))
            return put(head, slot, true, next);
        const std::size_t oldest = slot_of(env, c, c.pending);
        commit(env, c, s_.layout.steps, 0);
        put(head, slot, true, next);
        std::memcpy(s_.next(oldest), stack_of(head), stack_bytes());
    }

    // The episode ended: all its rows are committed, the final observation goes aside.
    void end(std::size_t env, ReplayCursor& c, std::size_t slot, const std::uint8_t* next,
             bool terminated) {
        std::int32_t* final_stack = s_.next(slot);
        const std::size_t newest = s_.layout.frames - 1;
        final_stack[newest] = put_aside(slot, next + newest * s_.layout.frame_bytes);
        put_older(final_stack, slot, slot, true, next);
        while (c.pending > 0) {
            const std::size_t row = slot_of(env, c, c.pending);
            if (row != slot) std::memcpy(s_.next(row), final_stack, stack_bytes());
            commit(env, c, static_cast<std::size_t>(c.pending), terminated ? kReplayDone : 0);
        }
    }

    // What follows is not the announced observation: it goes aside, and every row whose n steps end
    // there keeps it as its next one.
    void cut(std::size_t env, ReplayCursor& c) {
        flush(env);
        const std::size_t head = slot_of(env, c, 0), last = slot_of(env, c, 1);
        const std::int64_t behind = std::min<std::int64_t>(c.window, s_.layout.steps);
        std::int32_t* final_stack = s_.next(last);
        for (std::size_t k = 0; k < s_.layout.frames; ++k) {
            final_stack[k] = keep(final_stack, stack_of(head)[k], k, head, last);
        }
        for (std::int64_t back = 2; back <= behind; ++back) {
            const std::size_t row = slot_of(env, c, back);
            if (s_.n_steps(row) != back) continue;
            std::memcpy(s_.next(row), final_stack, stack_bytes());
        }
        c.announced = 0;
    }

    // Frame k of the stack at `head`, made to outlive that slot; it belongs to slot `last` then.
    std::int32_t keep(const std::int32_t* kept, std::int32_t reference, std::size_t k,
                      std::size_t head, std::size_t last) {
        const std::int32_t* stack = stack_of(head);
        for (std::size_t j = 0; j < k; ++j) {
            if (stack[j] == reference) return kept[j];
        }
        if (reference == static_cast<std::int32_t>(head)) return put_aside(last, s_.slot(head));
        if (owned(reference, head)) side_.owners[~reference] = static_cast<std::int32_t>(last);
        return reference;
    }

    // Sums the rewards of the oldest pending row and makes it ready; the row that leaves its window
    // for it can no longer be sampled.
    void commit(std::size_t env, ReplayCursor& c, std::size_t steps, std::uint16_t flags) {
        const std::size_t row = slot_of(env, c, c.pending);
        const float sum = discounted(env, c, steps);
        const bool finite = std::isfinite(sum);
        if (c.window == static_cast<std::int64_t>(s_.layout.rows)) {
            leave(slot_of(env, c, c.pending + c.window));
        } else {
            c.window += 1;
        }
        c.pending -= 1;
        s_.reward(row) = sum;
        s_.n_steps(row) = static_cast<std::uint16_t>(steps);
        s_.flags(row) = finite ? flags : std::uint16_t(flags | kReplayDropped);
        ReplayCounters& count = *s_.counters;
        (finite ? count.ready : count.dropped) += 1;
        if (!finite || changes_.inserted == nullptr) return;
        changes_.inserted[count.inserted++] = static_cast<std::int64_t>(row);
    }

    // sum of gamma**k * reward over the oldest pending row and its followers, which are raw still.
    float discounted(std::size_t env, const ReplayCursor& c, std::size_t steps) const {
        if (steps == 1) return s_.reward(slot_of(env, c, c.pending));
        double sum = 0.0, weight = 1.0;
        for (std::size_t k = 0; k < steps; ++k) {
            const std::int64_t back = c.pending - static_cast<std::int64_t>(k);
            sum += weight * static_cast<double>(s_.reward(slot_of(env, c, back)));
            weight *= gamma_;
        }
        return static_cast<float>(sum);
    }

    void leave(std::size_t row) {
        if ((s_.flags(row) & kReplayDropped) != 0) return;
        s_.counters->ready -= 1;
        if (changes_.removed != nullptr)
            changes_.removed[s_.counters->removed++] = static_cast<std::int64_t>(row);
    }

    // The references to the frames of the observation at `slot`.
    const std::int32_t* stack_of(std::size_t slot) {
        if (s_.layout.frames > 1) return s_.stack(slot);
        self_ = static_cast<std::int32_t>(slot);
        return &self_;
    }

    bool holds(std::size_t slot, const std::uint8_t* observation) {
        const std::int32_t* stack = stack_of(slot);
        for (std::size_t k = s_.layout.frames; k-- > 0;) {
            if (!same(stack[k], observation + k * s_.layout.frame_bytes)) return false;
        }
        return true;
    }

    bool same(std::int32_t reference, const std::uint8_t* frame) const {
        const std::uint8_t* stored = s_.frame(reference);
        return stored != nullptr && std::memcmp(stored, frame, s_.layout.frame_bytes) == 0;
    }

    // Writes an observation to a slot: its newest frame there, the older ones where they are.
    void put(std::size_t slot, std::size_t past, bool has_past, const std::uint8_t* observation) {
        const ReplayLayout& a = s_.layout;
        release(slot);
        std::memcpy(s_.slot(slot), observation + (a.frames - 1) * a.frame_bytes, a.frame_bytes);
        if (a.frames == 1) return;
        s_.stack(slot)[a.frames - 1] = static_cast<std::int32_t>(slot);
        put_older(s_.stack(slot), slot, past, has_past, observation);
    }

    // Newest first, so that a reference never reaches further back than a stack is deep: what
    // repeats a newer frame of this stack may share it, not the other way round.
    void put_older(std::int32_t* stack, std::size_t owner, std::size_t past, bool has_past,
                   const std::uint8_t* observation) {
        const std::size_t newest = s_.layout.frames - 1, bytes = s_.layout.frame_bytes;
        for (std::size_t k = newest; k-- > 0;) {
            const std::uint8_t* frame = observation + k * bytes;
            if (has_past && same(s_.stack(past)[k + 1], frame)) {
                stack[k] = s_.stack(past)[k + 1];
                continue;
            }
            std::size_t j = k + 1;
            while (j <= newest && std::memcmp(observation + j * bytes, frame, bytes) != 0) ++j;
            stack[k] = j <= newest ? stack[j] : put_aside(owner, frame);
        }
    }

    std::int32_t put_aside(std::size_t owner, const std::uint8_t* frame) {
        std::int32_t entry = side_.free_list[--s_.counters->side_free];
        if (static_cast<std::size_t>(entry) >= s_.side_entries) {
            damaged_ = true;
            entry = 0;
        }
        side_.owners[entry] = static_cast<std::int32_t>(owner);
        std::memcpy(s_.side + std::size_t(entry) * s_.layout.frame_bytes, frame,
                    s_.layout.frame_bytes);
        return ~entry;
    }

    bool owned(std::int32_t reference, std::size_t slot) const {
        return reference < 0 && static_cast<std::size_t>(~reference) < s_.side_entries &&
               side_.owners[~reference] == static_cast<std::int32_t>(slot);
    }

    // Frees the side frames that belong to a slot.
    void release(std::size_t slot) {
        const std::size_t references = s_.layout.frames * (s_.layout.frames > 1 ? 2 : 1);
        std::int32_t* reference = s_.next(slot);
        for (std::size_t k = 0; k < references; ++k) {
            if (!owned(reference[k], slot)) continue;
            side_.owners[~reference[k]] = -1;
            side_.free_list[s_.counters->side_free++] = ~reference[k];
        }
        std::memset(reference, 0, 4 * s_.layout.frames);
    }

    ReplayStore s_;
    ReplaySide side_;
    ReplayChanges changes_;
    double gamma_;
    bool damaged_ = false;
    std::int32_t self_ = 0;  // what stack_of returns with one frame
};

}  // namespace tensor_optix
