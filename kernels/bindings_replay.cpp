// The Python face of the replay ring (replay.hpp, replay_writing.hpp).
#include "bindings_replay.hpp"

#include <algorithm>

#include "bindings_replay_arguments.hpp"
#include "bindings_replay_docs.hpp"

using namespace tensor_optix;

namespace {

// A field of `count` rows with `bytes` bytes each, of any dtype.
Array& check_rows(Array& field, std::size_t count, std::size_t bytes, Access access) {
    field.check(Dtype::kAny, access);
    const Py_buffer& view = field.view();
    if (view.ndim == 0 || field.length(0) != count ||
        static_cast<std::size_t>(view.len) != count * bytes) {
        field.fail_shape("[" + std::to_string(count) + ", ...] with " + std::to_string(bytes) +
                         " bytes a row");
    }
    return field;
}

[[noreturn]] void fail_env_id(std::size_t i, std::int64_t env, const std::string& expected) {
    fail("env_ids[" + std::to_string(i) + "] must be " + expected + ", got " + std::to_string(env));
}

// A call that goes on after another has its stamps already.
void check_env_ids(const RingArguments& a, const Array& ids, bool fresh) {
    const std::int64_t* envs = ids.as<const std::int64_t>();
    const std::int64_t stamp = a.store.counters->stamp += fresh;
    for (std::size_t i = 0; i < ids.length(0); ++i) {
        if (static_cast<std::uint64_t>(envs[i]) >= a.store.layout.envs) {
            fail_env_id(i, envs[i], "in [0, " + std::to_string(a.store.layout.envs) + ")");
        }
        ReplayCursor& c = a.store.cursors[envs[i]];
        if (fresh && c.stamp == stamp) fail_env_id(i, envs[i], "new in its call");
        c.stamp = stamp;
        a.check_cursor(static_cast<std::size_t>(envs[i]));
    }
}

// The changes that a call may append to those of the calls that it goes on from.
std::size_t changes_room(ReplayCounters& counters, std::size_t commits, bool fresh) {
    if (fresh) counters.inserted = counters.removed = 0;
    const std::int64_t before = std::max(counters.inserted, counters.removed);
    if (std::min(counters.inserted, counters.removed) < 0) fail("counters must not be negative");
    return static_cast<std::size_t>(before) + commits;
}

std::size_t py_replay_extend(nb::handle layout, nb::handle ring, nb::handle side,
                             nb::handle side_entries, nb::handle cursors, nb::handle counters,
                             nb::handle changes, nb::handle observations, nb::handle actions,
                             nb::handle rewards, nb::handle next_observations,
                             nb::handle terminated, nb::handle truncated, nb::handle env_ids,
                             nb::handle gamma, std::size_t first) {
    RingArguments a(layout, ring, cursors, counters, Access::kWrite);
    SideArguments b(a, side, side_entries);
    Array change(changes, "changes"), ids(env_ids, "env_ids");
    ids.check(Dtype::kInt64, Access::kRead).check_rank(1, "[B]");
    const std::size_t count = ids.length(0), bytes = a.store.layout.observation_bytes();
    Array obs(observations, "observations"), act(actions, "actions"), rew(rewards, "rewards");
    Array next(next_observations, "next_observations");
    Array term(terminated, "terminated"), trunc(truncated, "truncated");
    check_rows(obs, count, bytes, Access::kRead);
    check_rows(act, count, a.store.layout.action_bytes, Access::kRead);
    rew.check(Dtype::kFloat32, Access::kRead).check_shape({count});
    check_rows(next, count, bytes, Access::kRead);
    term.check(Dtype::kMask, Access::kRead).check_shape({count});
    trunc.check(Dtype::kMask, Access::kRead).check_shape({count});
    for (const Array* written : {&a.ring, &a.cursors, &a.counters, &b.side, &b.entries, &change}) {
        check_disjoint(*written, {&obs, &act, &rew, &next, &term, &trunc, &ids});
    }
    const double discount = unit_number(gamma, "gamma");
    check_env_ids(a, ids, first == 0);
    const std::size_t left = first < count ? count - first : 0;
    const std::size_t room =
        changes_room(*a.store.counters, left * a.store.layout.steps, first == 0);
    ReplayWriter writer = writer_of(a, b, change, discount, room);
    const ReplayRows rows = {
        obs.begin(),  act.begin(),   rew.as<const float>(),        next.begin(),
        term.begin(), trunc.begin(), ids.as<const std::int64_t>(), count};
    std::size_t done;
    {
        nb::gil_scoped_release released;
        done = writer.extend(rows, first);
    }
    if (writer.damaged()) fail("side_entries must list the free side frames, got other numbers");
    return done;
}

void py_replay_flush(nb::handle layout, nb::handle ring, nb::handle side, nb::handle side_entries,
                     nb::handle cursors, nb::handle counters, nb::handle changes,
                     nb::handle gamma) {
    RingArguments a(layout, ring, cursors, counters, Access::kWrite);
    SideArguments b(a, side, side_entries);
    Array change(changes, "changes");
    const double discount = unit_number(gamma, "gamma");
    const std::size_t commits = a.store.layout.envs * (a.store.layout.steps - 1);
    const std::size_t room = changes_room(*a.store.counters, commits, true);
    ReplayWriter writer = writer_of(a, b, change, discount, room);
    a.check_cursors();
    nb::gil_scoped_release released;
    for (std::size_t env = 0; env < a.store.layout.envs; ++env) writer.flush(env);
}

void py_replay_draw(nb::handle layout, nb::handle ring, nb::handle cursors, nb::handle counters,
                    nb::handle state, nb::handle indices) {
    RingArguments a(layout, ring, cursors, counters, Access::kRead);
    Array words(state, "state"), out(indices, "indices");
    words.check(Dtype::kUint64, Access::kWrite).check_shape({1});
    out.check(Dtype::kInt64, Access::kWrite).check_rank(1, "[B]");
    check_disjoint(out, {&words, &a.ring, &a.cursors, &a.counters, &a.layout});
    check_disjoint(words, {&a.ring, &a.cursors, &a.counters, &a.layout});
    a.check_cursors();
    std::int64_t windows = 0;
    for (std::size_t n = 0; n < a.store.layout.envs; ++n) windows += a.store.cursors[n].window;
    if (a.store.counters->ready <= 0 || a.store.counters->ready > windows) {
        fail("counters must count the rows that are ready, at least one, got " +
             std::to_string(a.store.counters->ready));
    }
    nb::gil_scoped_release released;
    replay_draw(a.store, words.as<std::uint64_t>(), out.as<std::int64_t>(), out.length(0));
}

void py_replay_gather(nb::handle layout, nb::handle ring, nb::handle side, nb::handle indices,
                      nb::handle observations, nb::handle actions, nb::handle rewards,
                      nb::handle next_observations, nb::handle dones, nb::handle n_steps) {
    Array numbers(layout, "layout"), slots(ring, "ring"), frames(side, "side");
    Array i(indices, "indices"), obs(observations, "observations"), act(actions, "actions");
    Array rew(rewards, "rewards"), next(next_observations, "next_observations");
    Array done(dones, "dones"), steps(n_steps, "n_steps");
    ReplayStore store{};
    check_ring(store, numbers, slots, Access::kRead);
    check_side(store, frames, Access::kRead);
    i.check(Dtype::kInt64, Access::kRead).check_rank(1, "[B]");
    const std::size_t count = i.length(0), bytes = store.layout.observation_bytes();
    check_rows(obs, count, bytes, Access::kWrite);
    check_rows(act, count, store.layout.action_bytes, Access::kWrite);
    rew.check(Dtype::kFloat32, Access::kWrite).check_shape({count});
    check_rows(next, count, bytes, Access::kWrite);
    done.check(Dtype::kMask, Access::kWrite).check_shape({count});
    steps.check(Dtype::kInt32, Access::kWrite).check_shape({count});
    check_disjoint(obs, {&slots, &frames, &i, &numbers, &act, &rew, &next, &done, &steps});
    check_disjoint(act, {&slots, &frames, &i, &numbers, &rew, &next, &done, &steps});
    check_disjoint(rew, {&slots, &frames, &i, &numbers, &next, &done, &steps});
    check_disjoint(next, {&slots, &frames, &i, &numbers, &done, &steps});
    check_disjoint(done, {&slots, &frames, &i, &numbers, &steps});
    check_disjoint(steps, {&slots, &frames, &i, &numbers});
    const std::int64_t* wanted = i.as<const std::int64_t>();
    for (std::size_t k = 0; k < count; ++k) {
        if (static_cast<std::uint64_t>(wanted[k]) < store.layout.total()) continue;
        const std::string message = "indices[" + std::to_string(k) + "] must be in [0, " +
                                    std::to_string(store.layout.total()) + "), got " +
                                    std::to_string(wanted[k]);
        throw nb::index_error(message.c_str());
    }
    const ReplayBatch batch = {obs.as<std::uint8_t>(),  act.as<std::uint8_t>(),
                               rew.as<float>(),         next.as<std::uint8_t>(),
                               done.as<std::uint8_t>(), steps.as<std::int32_t>()};
    std::size_t gathered;
    {
        nb::gil_scoped_release released;
        gathered = replay_gather(store, wanted, count, batch);
    }
    if (gathered < count) {
        fail("ring must refer to frames that it has, got a damaged row at index " +
             std::to_string(wanted[gathered]));
    }
}

// Any object, None too, reaches our own checks: nanobind's message would not name the argument.
auto operator""_any(const char* name, std::size_t) {
    return nb::arg(name).none();
}

}  // namespace

void bind_replay(nb::module_& m) {
    m.def("replay_extend", py_replay_extend, "layout"_any, "ring"_any, "side"_any,
          "side_entries"_any, "cursors"_any, "counters"_any, "changes"_any, "observations"_any,
          "actions"_any, "rewards"_any, "next_observations"_any, "terminated"_any, "truncated"_any,
          "env_ids"_any, "gamma"_any, "first"_any, docs::kReplayExtend);
    m.def("replay_flush", py_replay_flush, "layout"_any, "ring"_any, "side"_any, "side_entries"_any,
          "cursors"_any, "counters"_any, "changes"_any, "gamma"_any, docs::kReplayFlush);
    m.def("replay_draw", py_replay_draw, "layout"_any, "ring"_any, "cursors"_any, "counters"_any,
          "state"_any, "indices"_any, docs::kReplayDraw);
    m.def("replay_gather", py_replay_gather, "layout"_any, "ring"_any, "side"_any, "indices"_any,
          "observations"_any, "actions"_any, "rewards"_any, "next_observations"_any, "dones"_any,
          "n_steps"_any, docs::kReplayGather);
}
