// The replay ring's arguments, checked: part of the bindings.
#pragma once

#include <nanobind/stl/string.h>

#include "bindings_arguments.hpp"
#include "replay_writing.hpp"

namespace tensor_optix {

inline constexpr std::size_t kReplayNumbers = 9;  // of a layout
inline constexpr std::size_t kReplayWords = sizeof(ReplayCursor) / sizeof(std::int64_t);
static_assert(sizeof(ReplayCounters) == sizeof(ReplayCursor), "both have eight words");

inline ReplayLayout checked_layout(Array& numbers, const Array& ring) {
    numbers.check(Dtype::kInt64, Access::kRead).check_shape({kReplayNumbers});
    const std::int64_t* n = numbers.as<const std::int64_t>();
    constexpr std::int64_t most = std::int64_t(1) << 40;  // far from overflow in a product of two
    bool fits = true;
    for (std::size_t i = 0; i < kReplayNumbers; ++i) fits = fits && n[i] >= (i < 5) && n[i] < most;
    ReplayLayout a{};
    std::size_t* fields[kReplayNumbers] = {&a.envs,         &a.slots,     &a.rows,
                                           &a.steps,        &a.frames,    &a.frame_bytes,
                                           &a.action_bytes, &a.action_at, &a.reward_at};
    for (std::size_t i = 0; i < kReplayNumbers; ++i) *fields[i] = static_cast<std::size_t>(n[i]);
    a.slot_bytes = ring.view().ndim == 2 ? ring.length(1) : 0;
    fits = fits && a.slots <= 0x7fffffff && a.envs <= 0x7fffffff / a.slots && a.steps <= 0xffff &&
           a.slots + 1 >= a.rows + a.steps + a.frames && a.action_at >= a.frame_bytes &&
           a.reward_at >= a.action_at + a.action_bytes && a.reward_at % 4 == 0 &&
           a.slot_bytes % 4 == 0 && a.slot_bytes >= a.reward_at + a.head_bytes();
    if (!fits) {
        fail("layout must be (num_envs, slots, rows, n_step, frames, frame_bytes, action_bytes, " +
             std::string("action_at, reward_at) of a ring with shape ") +
             shape_text(ring.view().shape, ring.view().ndim) + ", got other numbers");
    }
    return a;
}

inline void check_ring(ReplayStore& store, Array& layout, Array& ring, Access access) {
    ring.check(Dtype::kMask, access).check_rank(2, "[num_envs * slots, slot_bytes]");
    store.layout = checked_layout(layout, ring);
    ring.check_shape({store.layout.total(), store.layout.slot_bytes});
    if (reinterpret_cast<std::uintptr_t>(ring.begin()) % 4 != 0) {
        fail("ring must be aligned to 4 bytes, got an unaligned view");
    }
    store.ring = ring.as<std::uint8_t>();
}

inline void check_side(ReplayStore& store, Array& side, Access access) {
    side.check(Dtype::kMask, access).check_rank(2, "[E, frame_bytes]");
    side.check_shape({side.length(0), store.layout.frame_bytes});
    store.side = side.as<std::uint8_t>();
    store.side_entries = side.length(0);
}

// What every function but replay_gather takes first.
struct RingArguments {
    Array layout, ring, cursors, counters;
    ReplayStore store{};

    RingArguments(nb::handle layout_, nb::handle ring_, nb::handle cursors_, nb::handle counters_,
                  Access access)
        : layout(layout_, "layout"),
          ring(ring_, "ring"),
          cursors(cursors_, "cursors"),
          counters(counters_, "counters") {
        check_ring(store, layout, ring, access);
        cursors.check(Dtype::kInt64, Access::kWrite).check_shape({store.layout.envs, kReplayWords});
        counters.check(Dtype::kInt64, Access::kWrite).check_shape({kReplayWords});
        check_disjoint(cursors, {&ring, &layout, &counters});
        check_disjoint(counters, {&ring, &layout});
        store.cursors = cursors.as<ReplayCursor>();
        store.counters = counters.as<ReplayCounters>();
    }

    void check_cursor(std::size_t env) const {
        const ReplayLayout& a = store.layout;
        const ReplayCursor& c = store.cursors[env];
        const auto in = [](std::int64_t value, std::size_t bound) {
            return static_cast<std::uint64_t>(value) < bound;
        };
        const bool sound = in(c.head, a.slots) && in(c.pending, a.steps) &&
                           in(c.window, a.rows + 1) && in(c.announced, 2) &&
                           (c.announced == 0 ? c.pending == 0 : c.pending + c.window > 0);
        if (!sound) fail("cursors[" + std::to_string(env) + "] must be a state of this ring");
    }

    void check_cursors() const {
        for (std::size_t env = 0; env < store.layout.envs; ++env) check_cursor(env);
    }
};

// Where frames lie that are in no slot.
struct SideArguments {
    Array side, entries;

    SideArguments(RingArguments& a, nb::handle side_, nb::handle entries_)
        : side(side_, "side"), entries(entries_, "side_entries") {
        check_side(a.store, side, Access::kWrite);
        entries.check(Dtype::kInt32, Access::kWrite).check_shape({2, side.length(0)});
        check_disjoint(side, {&a.ring, &a.cursors, &a.counters, &entries});
        check_disjoint(entries, {&a.ring, &a.cursors, &a.counters});
        const std::int64_t unused = a.store.counters->side_free;
        if (unused < 0 || static_cast<std::size_t>(unused) > side.length(0)) {
            fail("counters[2] must be the number of free side frames, in [0, " +
                 std::to_string(side.length(0)) + "], got " + std::to_string(unused));
        }
    }
};

inline ReplayWriter writer_of(RingArguments& a, SideArguments& b, Array& changes, double gamma,
                              std::size_t room) {
    changes.check(Dtype::kInt64, Access::kWrite).check_rank(2, "[2, M]");
    const std::size_t length = changes.length(1);
    if (changes.length(0) != 2 || (length != 0 && length < room)) {
        changes.fail_shape("(2, M), M being 0 or at least " + std::to_string(room));
    }
    check_disjoint(changes, {&a.ring, &a.cursors, &a.counters, &a.layout, &b.side, &b.entries});
    std::int32_t* entries = b.entries.as<std::int32_t>();
    std::int64_t* inserted = length == 0 ? nullptr : changes.as<std::int64_t>();
    const ReplaySide side = {entries, entries + a.store.side_entries};
    const ReplayChanges rows = {inserted, length == 0 ? nullptr : inserted + length};
    return {a.store, side, rows, gamma};
}

}  // namespace tensor_optix
