// The Python face of the sum tree: checks every argument, releases the GIL, calls the kernel.
#include "bindings_sum_tree.hpp"

#include <limits>

#include "bindings_arguments.hpp"
#include "bindings_sum_tree_docs.hpp"
#include "priorities.hpp"
#include "sum_tree.hpp"
#include "sum_tree_sampling.hpp"

using namespace tensor_optix;

namespace {

struct TreeArguments {
    Array leaves, nodes;

    TreeArguments(nb::handle leaves_, nb::handle nodes_, Access access)
        : leaves(leaves_, "leaves"), nodes(nodes_, "nodes") {
        leaves.check(Dtype::kFloat32, access).check_rank(1, "[C]");
        nodes.check(Dtype::kFloat64, access).check_shape({tree().node_count(), kNodeSize});
        check_disjoint(nodes, {&leaves});
    }

    SumTree tree() const {
        return {leaves.as<float>(), leaves.length(0), nodes.as<double>()};
    }
    std::size_t size() const {
        return leaves.length(0);
    }
};

// An argument that is read while the tree is written.
struct RowArgument : Array {
    RowArgument(nb::handle object, const char* name, Dtype dtype, const TreeArguments& tree)
        : Array(object, name) {
        check(dtype, Access::kRead);
        check_disjoint(*this, {&tree.leaves, &tree.nodes});
    }
};

// `open` is how an element is named up to its number: "indices[".
void check_bounds(const std::int64_t* wanted, std::size_t count, std::size_t size,
                  const char* open) {
    std::size_t outside = 0;
    // Seen as unsigned, a negative index is beyond any bound.
    for (std::size_t i = 0; i < count; ++i)
        outside += static_cast<std::uint64_t>(wanted[i]) >= size;
    if (outside == 0) return;
    std::size_t at = 0;
    while (static_cast<std::uint64_t>(wanted[at]) < size) ++at;
    const std::string message = open + std::to_string(at) + "] must be in [0, " +
                                std::to_string(size) + "), got " + std::to_string(wanted[at]);
    throw nb::index_error(message.c_str());
}

const std::int64_t* checked_indices(const Array& indices, std::size_t size) {
    const std::int64_t* wanted = indices.as<const std::int64_t>();
    check_bounds(wanted, indices.length(0), size, "indices[");
    return wanted;
}

bool is_weight(double value) {
    return value >= 0.0 && value <= std::numeric_limits<float>::max();
}

void check_values(const float* values, std::size_t count) {
    std::size_t bad = 0;
    for (std::size_t i = 0; i < count; ++i) bad += !is_weight(values[i]);
    if (bad == 0) return;
    std::size_t at = 0;
    while (is_weight(values[at])) ++at;
    fail("values[" + std::to_string(at) + "] must be finite and not negative, got " +
         text(nb::float_(values[at])));
}

std::size_t whole_number(nb::handle object, const char* name) {
    const Py_ssize_t value = PyNumber_AsSsize_t(object.ptr(), nullptr);
    if (value == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        throw nb::type_error(
            (std::string(name) + " must be a whole number, got " + Py_TYPE(object.ptr())->tp_name)
                .c_str());
    }
    if (value < 1) fail(std::string(name) + " must be at least 1, got " + std::to_string(value));
    return static_cast<std::size_t>(value);
}

std::int64_t py_rebuild(nb::handle leaves, nb::handle nodes) {
    TreeArguments a(leaves, nodes, Access::kWrite);
    nb::gil_scoped_release released;
    return rebuild(a.tree());
}

std::int64_t py_set(nb::handle leaves, nb::handle nodes, nb::handle indices, nb::handle values) {
    TreeArguments a(leaves, nodes, Access::kWrite);
    RowArgument i(indices, "indices", Dtype::kInt64, a), v(values, "values", Dtype::kFloat32, a);
    i.check_rank(1, "[B]");
    const std::size_t count = i.length(0);
    v.check_shape({count});
    const std::int64_t* rows = checked_indices(i, a.size());
    check_values(v.as<const float>(), count);
    nb::gil_scoped_release released;
    return set_leaves(a.tree(), rows, count, v.as<const float>());
}

std::int64_t py_fill(nb::handle leaves, nb::handle nodes, nb::handle indices, nb::handle value) {
    TreeArguments a(leaves, nodes, Access::kWrite);
    RowArgument i(indices, "indices", Dtype::kInt64, a);
    i.check_rank(1, "[B]");
    const double wanted = number(value, "value");
    const std::int64_t* rows = checked_indices(i, a.size());
    if (!is_weight(wanted)) {
        fail("value must be finite and not negative, got " + text(nb::float_(wanted)));
    }
    nb::gil_scoped_release released;
    return fill_leaves(a.tree(), rows, i.length(0), static_cast<float>(wanted));
}

void py_sample(nb::handle leaves, nb::handle nodes, nb::handle count, nb::handle batches,
               nb::handle beta, nb::handle state, nb::handle indices, nb::handle weights) {
    TreeArguments a(leaves, nodes, Access::kRead);
    Array s(state, "state"), i(indices, "indices"), w(weights, "weights");
    const std::size_t size = whole_number(count, "count"), times = whole_number(batches, "batches");
    const double power = unit_number(beta, "beta");
    s.check(Dtype::kUint64, Access::kWrite).check_shape({1});
    i.check(Dtype::kInt64, Access::kWrite).check_rank(1, "[batches * count]");
    if (i.length(0) / size != times || i.length(0) % size != 0) {
        fail("indices must hold batches * count = " + std::to_string(times) + " * " +
             std::to_string(size) + " rows, got " + std::to_string(i.length(0)));
    }
    w.check(Dtype::kFloat32, Access::kWrite).check_shape({i.length(0)});
    check_disjoint(i, {&a.leaves, &a.nodes, &s});
    check_disjoint(w, {&a.leaves, &a.nodes, &s, &i});
    check_disjoint(s, {&a.leaves, &a.nodes});
    const SumTree tree = a.tree();
    if (!(tree.total() > 0.0)) {
        fail("leaves must hold a positive value to be drawn, got a total of " +
             text(nb::float_(tree.total())));
    }
    const TreeDraw draw = {size,         times, power, s.as<std::uint64_t>(), i.as<std::int64_t>(),
                           w.as<float>()};
    nb::gil_scoped_release released;
    sample_leaves(tree, draw);
}

Array& checked_raw(Array& raw, const TreeArguments& a, Access access) {
    raw.check(Dtype::kFloat32, access).check_shape({a.size()});
    check_disjoint(raw, {&a.leaves, &a.nodes});
    return raw;
}

float* checked_maximum(Array& running_max, const TreeArguments& a, const Array& raw) {
    running_max.check(Dtype::kFloat32, Access::kWrite).check_shape({1});
    check_disjoint(running_max, {&a.leaves, &a.nodes, &raw});
    float* value = running_max.as<float>();
    if (!is_weight(*value)) {
        fail("running_max must be finite and not negative, got " + text(nb::float_(*value)));
    }
    return value;
}

ReplacedRows checked_changes(const Array& changes, const Array& counts, std::size_t size) {
    if (changes.view().ndim != 2 || changes.length(0) != 2) changes.fail_shape("[2, M]");
    const std::int64_t* n = counts.as<const std::int64_t>();
    const std::size_t room = changes.length(1);
    for (std::size_t k = 0; k < 2; ++k) {
        if (static_cast<std::uint64_t>(n[k]) <= room) continue;
        fail("counts[" + std::to_string(k) + "] must be in [0, " + std::to_string(room) +
             "], got " + std::to_string(n[k]));
    }
    const std::int64_t* in = changes.as<const std::int64_t>();
    const ReplacedRows rows = {in, static_cast<std::size_t>(n[0]), in + room,
                               static_cast<std::size_t>(n[1])};
    check_bounds(rows.in, rows.inserted, size, "changes[0, ");
    check_bounds(rows.out, rows.removed, size, "changes[1, ");
    return rows;
}

std::int64_t py_replace(nb::handle leaves, nb::handle nodes, nb::handle raw, nb::handle changes,
                        nb::handle counts, nb::handle alpha, nb::handle running_max) {
    TreeArguments a(leaves, nodes, Access::kWrite);
    RowArgument c(changes, "changes", Dtype::kInt64, a), n(counts, "counts", Dtype::kInt64, a);
    Array r(raw, "raw"), top(running_max, "running_max");
    n.check_shape({2});
    checked_raw(r, a, Access::kWrite);
    check_disjoint(r, {&c, &n});
    const float start = *checked_maximum(top, a, r);
    const Priorities priorities = {a.tree(), r.as<float>(), unit_number(alpha, "alpha")};
    const ReplacedRows rows = checked_changes(c, n, a.size());
    nb::gil_scoped_release released;
    return replace_priorities(priorities, rows, start);
}

std::size_t py_update(nb::handle leaves, nb::handle nodes, nb::handle raw, nb::handle indices,
                      nb::handle td_errors, nb::handle alpha, nb::handle eps,
                      nb::handle running_max) {
    TreeArguments a(leaves, nodes, Access::kWrite);
    RowArgument i(indices, "indices", Dtype::kInt64, a);
    RowArgument t(td_errors, "td_errors", Dtype::kFloat32, a);
    Array r(raw, "raw"), top(running_max, "running_max");
    i.check_rank(1, "[B]");
    const std::size_t count = i.length(0);
    t.check_shape({count});
    checked_raw(r, a, Access::kWrite);
    check_disjoint(r, {&i, &t});
    float* maximum = checked_maximum(top, a, r);
    check_disjoint(top, {&i, &t});
    const Priorities priorities = {a.tree(), r.as<float>(), unit_number(alpha, "alpha")};
    const float offset = static_cast<float>(unit_number(eps, "eps"));
    const std::int64_t* rows = checked_indices(i, a.size());
    nb::gil_scoped_release released;
    return update_priorities(priorities, rows, t.as<const float>(), count, offset, maximum);
}

void py_rescale(nb::handle leaves, nb::handle nodes, nb::handle raw, nb::handle alpha) {
    TreeArguments a(leaves, nodes, Access::kWrite);
    Array r(raw, "raw");
    checked_raw(r, a, Access::kRead);
    const Priorities priorities = {a.tree(), r.as<float>(), unit_number(alpha, "alpha")};
    nb::gil_scoped_release released;
    rescale_priorities(priorities);
}

// Any object, None too, reaches our own checks: nanobind's message would not name the argument.
auto operator""_any(const char* name, std::size_t) {
    return nb::arg(name).none();
}

}  // namespace

namespace tensor_optix {

void bind_sum_tree(nb::module_& m) {
    m.def("sum_tree_rebuild", py_rebuild, "leaves"_any, "nodes"_any, docs::kSumTreeRebuild);
    m.def("sum_tree_set", py_set, "leaves"_any, "nodes"_any, "indices"_any, "values"_any,
          docs::kSumTreeSet);
    m.def("sum_tree_fill", py_fill, "leaves"_any, "nodes"_any, "indices"_any, "value"_any,
          docs::kSumTreeFill);
    m.def("sum_tree_sample", py_sample, "leaves"_any, "nodes"_any, "count"_any, "batches"_any,
          "beta"_any, "state"_any, "indices"_any, "weights"_any, docs::kSumTreeSample);
    m.def("priorities_replace", py_replace, "leaves"_any, "nodes"_any, "raw"_any, "changes"_any,
          "counts"_any, "alpha"_any, "running_max"_any, docs::kPrioritiesReplace);
    m.def("priorities_update", py_update, "leaves"_any, "nodes"_any, "raw"_any, "indices"_any,
          "td_errors"_any, "alpha"_any, "eps"_any, "running_max"_any, docs::kPrioritiesUpdate);
    m.def("priorities_rescale", py_rescale, "leaves"_any, "nodes"_any, "raw"_any, "alpha"_any,
          docs::kPrioritiesRescale);
}

}  // namespace tensor_optix
