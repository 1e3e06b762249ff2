// The functions of Python: each takes arguments by position, refuses what does not fit, releases
// the GIL and calls the kernel. What they do and take stands in their Python face.
#include <algorithm>
#include <cmath>
#include <limits>

#include "bindings_arguments.hpp"
#include "episodes.hpp"
#include "minibatches.hpp"
#include "moments.hpp"
#include "priorities.hpp"
#include "recurrences.hpp"
#include "replay_writing.hpp"
#include "sum_tree_sampling.hpp"

using namespace tensor_optix;

namespace tensor_optix {
void bind_engine(nb::module_& m);
}

namespace {

using Mask = const std::uint8_t;

void py_gae(nb::handle rewards, nb::handle values, nb::handle dones, nb::handle valid,
            nb::handle last_values, nb::handle gamma, nb::handle gae_lambda, nb::handle advantages,
            nb::handle returns) {
    Arguments a;
    const auto r = a.ranked<const float>(rewards, 2);
    const std::size_t rows = r.length(0), envs = r.length(1);
    const GaeArrays arrays = {r.data,
                              a.array<const float>(values, {rows, envs}),
                              a.array<Mask>(dones, {rows, envs}),
                              a.array<Mask>(valid, {rows, envs}),
                              a.array<const float>(last_values, {envs}),
                              a.array<float>(advantages, {rows, envs}),
                              a.array<float>(returns, {rows, envs})};
    a.require_disjoint();
    const double discount = unit_number(gamma), decay = unit_number(gae_lambda);
    nb::gil_scoped_release released;
    gae(arrays, rows, envs, discount, decay);
}

void py_discounted_returns(nb::handle rewards, nb::handle dones, nb::handle valid,
                           nb::handle last_values, nb::handle gamma, nb::handle returns) {
    Arguments a;
    const auto r = a.ranked<const float>(rewards, 2);
    const std::size_t rows = r.length(0), envs = r.length(1);
    const ReturnsArrays arrays = {
        r.data, a.array<Mask>(dones, {rows, envs}), a.array<Mask>(valid, {rows, envs}),
        a.array<const float>(last_values, {envs}), a.array<float>(returns, {rows, envs})};
    a.require_disjoint();
    const double discount = unit_number(gamma);
    nb::gil_scoped_release released;
    discounted_returns(arrays, rows, envs, discount);
}

std::size_t py_episode_statistics(nb::handle rewards, nb::handle dones, nb::handle valid,
                                  nb::handle running_returns, nb::handle running_lengths,
                                  nb::handle finished_returns, nb::handle finished_lengths,
                                  nb::handle finished_envs) {
    Arguments a;
    const auto r = a.ranked<const float>(rewards, 2);
    const std::size_t rows = r.length(0), envs = r.length(1), most = rows * envs;
    const EpisodeArrays arrays = {r.data,
                                  a.array<Mask>(dones, {rows, envs}),
                                  a.array<Mask>(valid, {rows, envs}),
                                  a.array<double>(running_returns, {envs}),
                                  a.array<std::int64_t>(running_lengths, {envs}),
                                  a.array<double>(finished_returns, {most}),
                                  a.array<std::int64_t>(finished_lengths, {most}),
                                  a.array<std::int32_t>(finished_envs, {most})};
    a.require_disjoint();
    nb::gil_scoped_release released;
    return episode_statistics(arrays, rows, envs);
}

Moments moments_of(Arguments& a, std::size_t dims, nb::handle mean, nb::handle var,
                   nb::handle count) {
    const Moments state = {a.array<double>(mean, {dims}), a.array<double>(var, {dims}),
                           a.array<double>(count, {1})};
    require(*state.count >= 0.0 && std::isfinite(*state.count));
    return state;
}

double bound(nb::handle clip) {
    const double value = number(clip);
    require(!std::isnan(value));
    return value;
}

double positive(nb::handle epsilon) {
    const double value = number(epsilon);
    require(value > 0.0 && std::isfinite(value));
    return value;
}

void py_update_moments(nb::handle batch, nb::handle mean, nb::handle var, nb::handle count) {
    Arguments a;
    const auto b = a.ranked<const float>(batch, 2);
    const Moments state = moments_of(a, b.length(1), mean, var, count);
    a.require_disjoint();
    nb::gil_scoped_release released;
    update_moments(b.data, b.length(0), b.length(1), state);
}

void py_normalize(nb::handle batch, nb::handle mean, nb::handle var, nb::handle clip,
                  nb::handle epsilon, nb::handle out) {
    Arguments a;
    const auto b = a.ranked<const float>(batch, 2);
    const std::size_t rows = b.length(0), dims = b.length(1);
    const double* means = a.array<const double>(mean, {dims});
    const double* variances = a.array<const double>(var, {dims});
    float* output = a.array<float>(out, {rows, dims});
    a.let_last_be_first();
    a.require_disjoint();
    const double limit = bound(clip), eps = positive(epsilon);
    nb::gil_scoped_release released;
    normalize(b.data, rows, dims, means, variances, limit, eps, output);
}

void py_update_and_normalize(nb::handle batch, nb::handle mean, nb::handle var, nb::handle count,
                             nb::handle clip, nb::handle epsilon, nb::handle out) {
    Arguments a;
    const auto b = a.ranked<const float>(batch, 2);
    const std::size_t rows = b.length(0), dims = b.length(1);
    const Moments state = moments_of(a, dims, mean, var, count);
    float* output = a.array<float>(out, {rows, dims});
    a.let_last_be_first();
    a.require_disjoint();
    const double limit = bound(clip), eps = positive(epsilon);
    nb::gil_scoped_release released;
    update_moments(b.data, rows, dims, state);
    normalize(b.data, rows, dims, state.mean, state.var, limit, eps, output);
}

void py_shuffle(nb::handle indices, nb::handle state) {
    Arguments a;
    const auto i = a.ranked<std::int32_t>(indices, 1);
    std::uint64_t* word = a.array<std::uint64_t>(state, {1});
    a.require_disjoint();
    nb::gil_scoped_release released;
    shuffle(i.data, i.length(), word);
}

bool same_dtype(const Py_buffer& a, const Py_buffer& b) {
    if (std::strcmp(a.format, b.format) == 0 && a.itemsize == b.itemsize) return true;
    // The format of a structured dtype depends on the array's alignment too: then dtypes decide.
    return nb::handle(a.obj).attr("dtype").equal(nb::handle(b.obj).attr("dtype"));
}

bool has_objects(const Py_buffer& view) {
    return std::strchr(view.format, 'O') != nullptr &&
           nb::cast<bool>(nb::handle(view.obj).attr("dtype").attr("hasobject"));
}

GatherField gather_field(Arguments& a, nb::handle source, nb::handle output, std::size_t count) {
    const Py_buffer& from = a.open<const std::uint8_t>(source);
    const Py_buffer& to = a.open<std::uint8_t>(output);
    require(from.ndim > 0 && from.ndim == to.ndim && same_dtype(from, to) && !has_objects(from));
    require(static_cast<std::size_t>(to.shape[0]) == count);
    std::size_t row_bytes = static_cast<std::size_t>(from.itemsize);
    for (int axis = 1; axis < from.ndim; ++axis) {
        require(from.shape[axis] == to.shape[axis]);
        row_bytes *= static_cast<std::size_t>(from.shape[axis]);
    }
    return {static_cast<const std::uint8_t*>(from.buf), static_cast<std::uint8_t*>(to.buf),
            row_bytes, static_cast<std::size_t>(from.shape[0])};
}

void py_gather(nb::handle sources, nb::handle indices, nb::handle outputs) {
    for (const nb::handle list : {sources, outputs})
        require(PyList_Check(list.ptr()) || PyTuple_Check(list.ptr()));
    const Py_ssize_t size = PySequence_Fast_GET_SIZE(sources.ptr());
    require(PySequence_Fast_GET_SIZE(outputs.ptr()) == size);
    Arguments a(static_cast<std::size_t>(2 * size + 1));
    const auto wanted = a.ranked<const std::int32_t>(indices, 1);
    std::vector<GatherField> fields;
    fields.reserve(static_cast<std::size_t>(size));
    std::size_t rows = SIZE_MAX;
    for (Py_ssize_t k = 0; k < size; ++k) {
        fields.push_back(gather_field(a, PySequence_Fast_GET_ITEM(sources.ptr(), k),
                                      PySequence_Fast_GET_ITEM(outputs.ptr(), k), wanted.length()));
        rows = std::min(rows, fields.back().source_rows);
    }
    a.require_disjoint();
    const std::size_t count = fields.empty() ? 0 : wanted.length();
    require(within_bounds(wanted.data, count, rows));
    nb::gil_scoped_release released;
    for (const GatherField& field : fields) gather(field, wanted.data, count);
}

SumTree tree_of(const Ranked<float>& leaves, double* nodes) {
    return {leaves.data, leaves.length(), nodes};
}

SumTree opened_tree(Arguments& a, nb::handle leaves, nb::handle nodes) {
    const auto leaf = a.ranked<float>(leaves, 1);
    const std::size_t count = tree_of(leaf, nullptr).node_count();
    return tree_of(leaf, a.array<double>(nodes, {count, kNodeSize}));
}

bool is_weight(double value) {
    return value >= 0.0 && value <= std::numeric_limits<float>::max();
}

std::int64_t py_sum_tree_rebuild(nb::handle leaves, nb::handle nodes) {
    Arguments a;
    const SumTree tree = opened_tree(a, leaves, nodes);
    a.require_disjoint();
    nb::gil_scoped_release released;
    return rebuild(tree);
}

std::int64_t py_sum_tree_set(nb::handle leaves, nb::handle nodes, nb::handle indices,
                             nb::handle values) {
    Arguments a;
    const SumTree tree = opened_tree(a, leaves, nodes);
    const auto i = a.ranked<const std::int64_t>(indices, 1);
    const float* v = a.array<const float>(values, {i.length()});
    a.require_disjoint();
    require_bounds(i.data, i.length(), tree.size);
    std::size_t bad = 0;
    for (std::size_t k = 0; k < i.length(); ++k) bad += !is_weight(v[k]);
    require(bad == 0);
    nb::gil_scoped_release released;
    return set_leaves(tree, i.data, i.length(), v);
}

std::int64_t py_sum_tree_fill(nb::handle leaves, nb::handle nodes, nb::handle indices,
                              nb::handle value) {
    Arguments a;
    const SumTree tree = opened_tree(a, leaves, nodes);
    const auto i = a.ranked<const std::int64_t>(indices, 1);
    a.require_disjoint();
    require_bounds(i.data, i.length(), tree.size);
    const double wanted = number(value);
    require(is_weight(wanted));
    nb::gil_scoped_release released;
    return fill_leaves(tree, i.data, i.length(), static_cast<float>(wanted));
}

void py_sum_tree_sample(nb::handle leaves, nb::handle nodes, nb::handle count, nb::handle batches,
                        nb::handle beta, nb::handle state, nb::handle indices, nb::handle weights) {
    Arguments a;
    const auto leaf = a.ranked<const float>(leaves, 1);
    const Ranked<float> unwritten = {const_cast<float*>(leaf.data), leaf.shape};
    const std::size_t node_count = tree_of(unwritten, nullptr).node_count();
    const double* node = a.array<const double>(nodes, {node_count, kNodeSize});
    const SumTree tree = tree_of(unwritten, const_cast<double*>(node));
    const std::size_t size = whole_number(count, 1), times = whole_number(batches, 1);
    const double power = unit_number(beta);
    std::uint64_t* word = a.array<std::uint64_t>(state, {1});
    const auto i = a.ranked<std::int64_t>(indices, 1);
    require(i.length() / size == times && i.length() % size == 0);
    const TreeDraw draw = {size, times, power, word, i.data, a.array<float>(weights, {i.length()})};
    a.require_disjoint();
    require(tree.total() > 0.0);
    nb::gil_scoped_release released;
    sample_leaves(tree, draw);
}

float* opened_maximum(Arguments& a, nb::handle running_max) {
    float* value = a.array<float>(running_max, {1});
    require(is_weight(*value));
    return value;
}

std::int64_t py_priorities_replace(nb::handle leaves, nb::handle nodes, nb::handle raw,
                                   nb::handle changes, nb::handle counts, nb::handle alpha,
                                   nb::handle running_max) {
    Arguments a;
    const SumTree tree = opened_tree(a, leaves, nodes);
    const Priorities priorities = {tree, a.array<float>(raw, {tree.size}), unit_number(alpha)};
    const auto c = a.ranked<const std::int64_t>(changes, 2);
    const std::int64_t* n = a.array<const std::int64_t>(counts, {2});
    const float start = *opened_maximum(a, running_max);
    a.require_disjoint();
    const std::size_t room = c.length(1);
    for (std::size_t k = 0; k < 2; ++k) require(static_cast<std::uint64_t>(n[k]) <= room);
    require(c.length(0) == 2);
    const ReplacedRows rows = {c.data, static_cast<std::size_t>(n[0]), c.data + room,
                               static_cast<std::size_t>(n[1])};
    require_bounds(rows.in, rows.inserted, tree.size);
    require_bounds(rows.out, rows.removed, tree.size);
    nb::gil_scoped_release released;
    return replace_priorities(priorities, rows, start);
}

std::size_t py_priorities_update(nb::handle leaves, nb::handle nodes, nb::handle raw,
                                 nb::handle indices, nb::handle td_errors, nb::handle alpha,
                                 nb::handle eps, nb::handle running_max) {
    Arguments a;
    const SumTree tree = opened_tree(a, leaves, nodes);
    const Priorities priorities = {tree, a.array<float>(raw, {tree.size}), unit_number(alpha)};
    const auto i = a.ranked<const std::int64_t>(indices, 1);
    const float* errors = a.array<const float>(td_errors, {i.length()});
    const float offset = static_cast<float>(unit_number(eps));
    float* maximum = opened_maximum(a, running_max);
    a.require_disjoint();
    require_bounds(i.data, i.length(), tree.size);
    nb::gil_scoped_release released;
    return update_priorities(priorities, i.data, errors, i.length(), offset, maximum);
}

void py_priorities_rescale(nb::handle leaves, nb::handle nodes, nb::handle raw, nb::handle alpha) {
    Arguments a;
    const SumTree tree = opened_tree(a, leaves, nodes);
    const float* r = a.array<const float>(raw, {tree.size});
    a.require_disjoint();
    const Priorities priorities = {tree, const_cast<float*>(r), unit_number(alpha)};
    nb::gil_scoped_release released;
    rescale_priorities(priorities);
}

constexpr std::size_t kReplayNumbers = 9;  // of a layout
constexpr std::size_t kReplayWords = sizeof(ReplayCursor) / sizeof(std::int64_t);
static_assert(sizeof(ReplayCounters) == sizeof(ReplayCursor), "both have eight words");

ReplayLayout layout_of(const std::int64_t* n, std::size_t slot_bytes) {
    constexpr std::int64_t most = std::int64_t(1) << 40;  // far from overflow in a product of two
    for (std::size_t i = 0; i < kReplayNumbers; ++i) require(n[i] >= (i < 5) && n[i] < most);
    ReplayLayout a{};
    std::size_t* fields[kReplayNumbers] = {&a.envs,         &a.slots,     &a.rows,
                                           &a.steps,        &a.frames,    &a.frame_bytes,
                                           &a.action_bytes, &a.action_at, &a.reward_at};
    for (std::size_t i = 0; i < kReplayNumbers; ++i) *fields[i] = static_cast<std::size_t>(n[i]);
    a.slot_bytes = slot_bytes;
    require(a.slots <= 0x7fffffff && a.envs <= 0x7fffffff / a.slots && a.steps <= 0xffff &&
            a.slots + 1 >= a.rows + a.steps + a.frames && a.action_at >= a.frame_bytes &&
            a.reward_at >= a.action_at + a.action_bytes && a.reward_at % 4 == 0 &&
            a.slot_bytes % 4 == 0 && a.slot_bytes >= a.reward_at + a.head_bytes());
    return a;
}

template <typename Byte>
ReplayStore opened_ring(Arguments& a, nb::handle layout, nb::handle ring) {
    const std::int64_t* numbers = a.array<const std::int64_t>(layout, {kReplayNumbers});
    const auto slots = a.ranked<Byte>(ring, 2);
    ReplayStore store{};
    store.layout = layout_of(numbers, slots.length(1));
    store.ring = const_cast<std::uint8_t*>(slots.data);
    require(slots.length(0) == store.layout.total() &&
            reinterpret_cast<std::uintptr_t>(store.ring) % 4 == 0);
    return store;
}

template <typename Byte>
void open_side(Arguments& a, ReplayStore& store, nb::handle side) {
    const auto frames = a.ranked<Byte>(side, 2);
    require(frames.length(1) == store.layout.frame_bytes);
    store.side = const_cast<std::uint8_t*>(frames.data);
    store.side_entries = frames.length(0);
}

void open_cursors(Arguments& a, ReplayStore& store, nb::handle cursors, nb::handle counters) {
    std::int64_t* words = a.array<std::int64_t>(cursors, {store.layout.envs, kReplayWords});
    store.cursors = reinterpret_cast<ReplayCursor*>(words);
    words = a.array<std::int64_t>(counters, {kReplayWords});
    store.counters = reinterpret_cast<ReplayCounters*>(words);
}

ReplaySide opened_entries(Arguments& a, const ReplayStore& store, nb::handle side_entries) {
    std::int32_t* entries = a.array<std::int32_t>(side_entries, {2, store.side_entries});
    require(static_cast<std::uint64_t>(store.counters->side_free) <= store.side_entries);
    return {entries, entries + store.side_entries};
}

void require_cursor(const ReplayStore& store, std::size_t env) {
    const ReplayCursor& c = store.cursors[env];
    const auto below = [](std::int64_t value, std::size_t limit) {
        return static_cast<std::uint64_t>(value) < limit;
    };
    require(below(c.head, store.layout.slots) && below(c.pending, store.layout.steps) &&
            below(c.window, store.layout.rows + 1) && below(c.announced, 2) &&
            (c.announced == 0 ? c.pending == 0 : c.pending + c.window > 0));
}

// A call that goes on after another has its stamps already.
void require_env_ids(const ReplayStore& store, const ReplayRows& rows, bool fresh) {
    const std::int64_t stamp = store.counters->stamp += fresh;
    for (std::size_t i = 0; i < rows.count; ++i) {
        require(static_cast<std::uint64_t>(rows.envs[i]) < store.layout.envs);
        ReplayCursor& c = store.cursors[rows.envs[i]];
        require(!fresh || c.stamp != stamp);
        c.stamp = stamp;
        require_cursor(store, static_cast<std::size_t>(rows.envs[i]));
    }
}

// Room for what a call of so many commits may append to the changes of those it goes on from.
ReplayChanges roomy_changes(const ReplayStore& store, const Ranked<std::int64_t>& changes,
                            std::size_t commits, bool fresh) {
    ReplayCounters& counters = *store.counters;
    if (fresh) counters.inserted = counters.removed = 0;
    require(changes.length(0) == 2 && std::min(counters.inserted, counters.removed) >= 0);
    const std::size_t length = changes.length(1);
    if (length == 0) return {nullptr, nullptr};
    const std::int64_t before = std::max(counters.inserted, counters.removed);
    require(length >= static_cast<std::size_t>(before) + commits);
    return {changes.data, changes.data + length};
}

std::size_t py_replay_extend(nb::handle layout, nb::handle ring, nb::handle side,
                             nb::handle side_entries, nb::handle cursors, nb::handle counters,
                             nb::handle changes, nb::handle observations, nb::handle actions,
                             nb::handle rewards, nb::handle next_observations,
                             nb::handle terminated, nb::handle truncated, nb::handle env_ids,
                             nb::handle gamma, nb::handle first) {
    Arguments a;
    ReplayStore store = opened_ring<std::uint8_t>(a, layout, ring);
    open_side<std::uint8_t>(a, store, side);
    open_cursors(a, store, cursors, counters);
    const ReplaySide entries = opened_entries(a, store, side_entries);
    const auto change = a.ranked<std::int64_t>(changes, 2);
    const auto ids = a.ranked<const std::int64_t>(env_ids, 1);
    const std::size_t count = ids.length(), bytes = store.layout.observation_bytes();
    const ReplayRows rows = {a.rows<const std::uint8_t>(observations, count, bytes),
                             a.rows<const std::uint8_t>(actions, count, store.layout.action_bytes),
                             a.array<const float>(rewards, {count}),
                             a.rows<const std::uint8_t>(next_observations, count, bytes),
                             a.array<Mask>(terminated, {count}),
                             a.array<Mask>(truncated, {count}),
                             ids.data,
                             count};
    a.require_disjoint();
    const double discount = unit_number(gamma);
    const std::size_t start = whole_number(first, 0), left = start < count ? count - start : 0;
    require_env_ids(store, rows, start == 0);
    ReplayWriter writer(store, entries,
                        roomy_changes(store, change, left * store.layout.steps, start == 0),
                        discount);
    std::size_t done;
    {
        nb::gil_scoped_release released;
        done = writer.extend(rows, start);
    }
    // Found too late to be refused: some rows are written.
    if (writer.damaged())
        throw nb::value_error("side_entries must list the free side frames, got other numbers");
    return done;
}

void py_replay_flush(nb::handle layout, nb::handle ring, nb::handle side, nb::handle side_entries,
                     nb::handle cursors, nb::handle counters, nb::handle changes,
                     nb::handle gamma) {
    Arguments a;
    ReplayStore store = opened_ring<std::uint8_t>(a, layout, ring);
    open_side<std::uint8_t>(a, store, side);
    open_cursors(a, store, cursors, counters);
    const ReplaySide entries = opened_entries(a, store, side_entries);
    const auto change = a.ranked<std::int64_t>(changes, 2);
    a.require_disjoint();
    const double discount = unit_number(gamma);
    const std::size_t envs = store.layout.envs, commits = envs * (store.layout.steps - 1);
    for (std::size_t env = 0; env < envs; ++env) require_cursor(store, env);
    ReplayWriter writer(store, entries, roomy_changes(store, change, commits, true), discount);
    nb::gil_scoped_release released;
    for (std::size_t env = 0; env < envs; ++env) writer.flush(env);
}

void py_replay_draw(nb::handle layout, nb::handle ring, nb::handle cursors, nb::handle counters,
                    nb::handle state, nb::handle indices) {
    Arguments a;
    ReplayStore store = opened_ring<const std::uint8_t>(a, layout, ring);
    open_cursors(a, store, cursors, counters);
    std::uint64_t* word = a.array<std::uint64_t>(state, {1});
    const auto out = a.ranked<std::int64_t>(indices, 1);
    a.require_disjoint();
    std::int64_t windows = 0;
    for (std::size_t env = 0; env < store.layout.envs; ++env) {
        require_cursor(store, env);
        windows += store.cursors[env].window;
    }
    require(store.counters->ready > 0 && store.counters->ready <= windows);
    nb::gil_scoped_release released;
    replay_draw(store, word, out.data, out.length());
}

void py_replay_gather(nb::handle layout, nb::handle ring, nb::handle side, nb::handle indices,
                      nb::handle observations, nb::handle actions, nb::handle rewards,
                      nb::handle next_observations, nb::handle dones, nb::handle n_steps) {
    Arguments a;
    ReplayStore store = opened_ring<const std::uint8_t>(a, layout, ring);
    open_side<const std::uint8_t>(a, store, side);
    const auto wanted = a.ranked<const std::int64_t>(indices, 1);
    const std::size_t count = wanted.length(), bytes = store.layout.observation_bytes();
    const ReplayBatch batch = {a.rows<std::uint8_t>(observations, count, bytes),
                               a.rows<std::uint8_t>(actions, count, store.layout.action_bytes),
                               a.array<float>(rewards, {count}),
                               a.rows<std::uint8_t>(next_observations, count, bytes),
                               a.array<std::uint8_t>(dones, {count}),
                               a.array<std::int32_t>(n_steps, {count})};
    a.require_disjoint();
    require_bounds(wanted.data, count, store.layout.total());
    std::size_t gathered;
    {
        nb::gil_scoped_release released;
        gathered = replay_gather(store, wanted.data, count, batch);
    }
    require(gathered == count);
}

}  // namespace

NB_MODULE(_native, m) {
    // What a user's agent still holds when Python ends is no leak.
    nb::set_leak_warnings(false);
    ndarray_type = nb::object(nb::module_::import_("numpy").attr("ndarray")).release().ptr();
    m.def("gae", py_gae);
    m.def("discounted_returns", py_discounted_returns);
    m.def("episode_statistics", py_episode_statistics);
    m.def("update_moments", py_update_moments);
    m.def("normalize", py_normalize);
    m.def("update_and_normalize", py_update_and_normalize);
    m.def("shuffle", py_shuffle);
    m.def("gather", py_gather);
    m.def("sum_tree_rebuild", py_sum_tree_rebuild);
    m.def("sum_tree_set", py_sum_tree_set);
    m.def("sum_tree_fill", py_sum_tree_fill);
    m.def("sum_tree_sample", py_sum_tree_sample);
    m.def("priorities_replace", py_priorities_replace);
    m.def("priorities_update", py_priorities_update);
    m.def("priorities_rescale", py_priorities_rescale);
    m.def("replay_extend", py_replay_extend);
    m.def("replay_flush", py_replay_flush);
    m.def("replay_draw", py_replay_draw);
    m.def("replay_gather", py_replay_gather);
#if defined(TENSOR_OPTIX_ENGINE)
    m.attr("HAS_ENGINE") = true;
    bind_engine(m);
#else
    m.attr("HAS_ENGINE") = false;
#endif
}
