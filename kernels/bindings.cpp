// The Python face of the kernels: checks every argument, releases the GIL, calls the kernel. With
// bindings_arguments.hpp it is all that knows Python.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "bindings_arguments.hpp"
#include "bindings_docs.hpp"
#include "bindings_replay.hpp"
#include "bindings_sum_tree.hpp"
#include "episodes.hpp"
#include "minibatches.hpp"
#include "moments.hpp"
#include "recurrences.hpp"

using namespace tensor_optix;

namespace {

void py_gae(nb::handle rewards, nb::handle values, nb::handle dones, nb::handle valid,
            nb::handle last_values, nb::handle gamma, nb::handle gae_lambda, nb::handle advantages,
            nb::handle returns) {
    Array r(rewards, "rewards"), v(values, "values"), d(dones, "dones"), ok(valid, "valid");
    Array last(last_values, "last_values");
    Array adv(advantages, "advantages"), ret(returns, "returns");
    r.check(Dtype::kFloat32, Access::kRead).check_rank(2, "[T, N]");
    const std::size_t rows = r.length(0), envs = r.length(1);
    v.check(Dtype::kFloat32, Access::kRead).check_shape({rows, envs});
    d.check(Dtype::kMask, Access::kRead).check_shape({rows, envs});
    ok.check(Dtype::kMask, Access::kRead).check_shape({rows, envs});
    last.check(Dtype::kFloat32, Access::kRead).check_shape({envs});
    adv.check(Dtype::kFloat32, Access::kWrite).check_shape({rows, envs});
    ret.check(Dtype::kFloat32, Access::kWrite).check_shape({rows, envs});
    check_disjoint(adv, {&r, &v, &d, &ok, &last, &ret});
    check_disjoint(ret, {&r, &v, &d, &ok, &last});
    const double discount = unit_number(gamma, "gamma");
    const double decay = unit_number(gae_lambda, "gae_lambda");
    const GaeArrays arrays = {r.as<const float>(), v.as<const float>(),    d.begin(),
                              ok.begin(),          last.as<const float>(), adv.as<float>(),
                              ret.as<float>()};
    nb::gil_scoped_release released;
    gae(arrays, rows, envs, discount, decay);
}

void py_discounted_returns(nb::handle rewards, nb::handle dones, nb::handle valid,
                           nb::handle last_values, nb::handle gamma, nb::handle returns) {
    Array r(rewards, "rewards"), d(dones, "dones"), ok(valid, "valid");
    Array last(last_values, "last_values"), ret(returns, "returns");
    r.check(Dtype::kFloat32, Access::kRead).check_rank(2, "[T, N]");
    const std::size_t rows = r.length(0), envs = r.length(1);
    d.check(Dtype::kMask, Access::kRead).check_shape({rows, envs});
    ok.check(Dtype::kMask, Access::kRead).check_shape({rows, envs});
    last.check(Dtype::kFloat32, Access::kRead).check_shape({envs});
    ret.check(Dtype::kFloat32, Access::kWrite).check_shape({rows, envs});
    check_disjoint(ret, {&r, &d, &ok, &last});
    const double discount = unit_number(gamma, "gamma");
    const ReturnsArrays arrays = {r.as<const float>(), d.begin(), ok.begin(),
                                  last.as<const float>(), ret.as<float>()};
    nb::gil_scoped_release released;
    discounted_returns(arrays, rows, envs, discount);
}

// The batch and its moments, as three functions take them.
struct MomentArguments {
    Array batch, mean, var;
    std::size_t rows = 0, dims = 0;

    MomentArguments(nb::handle batch_, nb::handle mean_, nb::handle var_, Access access)
        : batch(batch_, "batch"), mean(mean_, "mean"), var(var_, "var") {
        batch.check(Dtype::kFloat32, Access::kRead).check_rank(2, "[B, D]");
        rows = batch.length(0);
        dims = batch.length(1);
        mean.check(Dtype::kFloat64, access).check_shape({dims});
        var.check(Dtype::kFloat64, access).check_shape({dims});
        if (access == Access::kWrite) {
            check_disjoint(mean, {&batch, &var});
            check_disjoint(var, {&batch});
        }
    }
};

Moments checked_state(const MomentArguments& a, Array& count) {
    count.check(Dtype::kFloat64, Access::kWrite).check_shape({1});
    check_disjoint(count, {&a.batch, &a.mean, &a.var});
    const double seen = *count.as<const double>();
    if (!(seen >= 0.0 && std::isfinite(seen))) {
        fail("count must be finite and not negative, got " + text(nb::float_(seen)));
    }
    return {a.mean.as<double>(), a.var.as<double>(), count.as<double>()};
}

// `out` may be the batch itself: the kernel works element by element.
void check_normalized(const MomentArguments& a, Array& out, double clip, double epsilon) {
    out.check(Dtype::kFloat32, Access::kWrite).check_shape({a.rows, a.dims});
    check_disjoint(out, {&a.mean, &a.var});
    if (out.begin() != a.batch.begin()) check_disjoint(out, {&a.batch});
    if (std::isnan(clip)) fail("clip must be a number, got nan");
    if (!(epsilon > 0.0 && std::isfinite(epsilon))) {
        fail("epsilon must be positive and finite, got " + text(nb::float_(epsilon)));
    }
}

void py_update_moments(nb::handle batch, nb::handle mean, nb::handle var, nb::handle count) {
    MomentArguments a(batch, mean, var, Access::kWrite);
    Array c(count, "count");
    const Moments state = checked_state(a, c);
    nb::gil_scoped_release released;
    update_moments(a.batch.as<const float>(), a.rows, a.dims, state);
}

void py_normalize(nb::handle batch, nb::handle mean, nb::handle var, nb::handle clip,
                  nb::handle epsilon, nb::handle out) {
    MomentArguments a(batch, mean, var, Access::kRead);
    Array o(out, "out");
    const double bound = number(clip, "clip"), eps = number(epsilon, "epsilon");
    check_normalized(a, o, bound, eps);
    nb::gil_scoped_release released;
    normalize(a.batch.as<const float>(), a.rows, a.dims, a.mean.as<const double>(),
              a.var.as<const double>(), bound, eps, o.as<float>());
}

void py_update_and_normalize(nb::handle batch, nb::handle mean, nb::handle var, nb::handle count,
                             nb::handle clip, nb::handle epsilon, nb::handle out) {
    MomentArguments a(batch, mean, var, Access::kWrite);
    Array c(count, "count"), o(out, "out");
    const Moments state = checked_state(a, c);
    const double bound = number(clip, "clip"), eps = number(epsilon, "epsilon");
    check_normalized(a, o, bound, eps);
    check_disjoint(o, {&c});
    nb::gil_scoped_release released;
    update_moments(a.batch.as<const float>(), a.rows, a.dims, state);
    normalize(a.batch.as<const float>(), a.rows, a.dims, state.mean, state.var, bound, eps,
              o.as<float>());
}

void py_shuffle(nb::handle indices, nb::handle state) {
    Array i(indices, "indices"), s(state, "state");
    i.check(Dtype::kInt32, Access::kWrite).check_rank(1, "[n]");
    s.check(Dtype::kUint64, Access::kWrite).check_shape({1});
    check_disjoint(i, {&s});
    const std::size_t count = i.length(0);
    nb::gil_scoped_release released;
    shuffle(i.as<std::int32_t>(), count, s.as<std::uint64_t>());
}

std::vector<Array> arrays_of(nb::handle sequence, const char* name, Access access) {
    if (!PyList_Check(sequence.ptr()) && !PyTuple_Check(sequence.ptr())) {
        throw nb::type_error((std::string(name) + " must be a list of NumPy arrays, got " +
                              Py_TYPE(sequence.ptr())->tp_name)
                                 .c_str());
    }
    std::vector<Array> arrays;
    const Py_ssize_t count = PySequence_Fast_GET_SIZE(sequence.ptr());
    arrays.reserve(static_cast<std::size_t>(count));
    for (Py_ssize_t i = 0; i < count; ++i) {
        arrays.emplace_back(PySequence_Fast_GET_ITEM(sequence.ptr(), i), name, int(i));
        Array& array = arrays.back().check(Dtype::kAny, access);
        if (array.view().ndim == 0) array.fail_shape("[rows, ...]");
        if (std::strchr(array.view().format, 'O') != nullptr &&
            nb::cast<bool>(Array::dtype(array.view().obj).attr("hasobject"))) {
            fail(array.name_text() + " must not hold Python objects, got dtype " +
                 Array::dtype_text(array.view().obj));
        }
    }
    return arrays;
}

GatherField checked_field(const Array& source, const Array& output, std::size_t count) {
    const Py_buffer& from = source.view();
    const Py_buffer& to = output.view();
    // The format of a structured dtype depends on the array's alignment too: then dtypes decide.
    const bool same = std::strcmp(from.format, to.format) == 0 && from.itemsize == to.itemsize;
    if (!same && !Array::dtype(from.obj).equal(Array::dtype(to.obj))) {
        fail(output.name_text() + " must be " + Array::dtype_text(from.obj) + " as " +
             source.name_text() + " is, got " + Array::dtype_text(to.obj));
    }
    std::vector<Py_ssize_t> expected(from.shape, from.shape + from.ndim);
    expected[0] = static_cast<Py_ssize_t>(count);
    if (expected != std::vector<Py_ssize_t>(to.shape, to.shape + to.ndim)) {
        output.fail_shape(shape_text(expected.data(), from.ndim));
    }
    check_disjoint(output, {&source});
    std::size_t row_bytes = static_cast<std::size_t>(from.itemsize);
    for (int axis = 1; axis < from.ndim; ++axis) row_bytes *= source.length(axis);
    return {source.begin(), output.as<std::uint8_t>(), row_bytes, source.length(0)};
}

void py_gather(nb::handle sources, nb::handle indices, nb::handle outputs) {
    Array i(indices, "indices");
    i.check(Dtype::kInt32, Access::kRead).check_rank(1, "[B]");
    const std::vector<Array> from = arrays_of(sources, "sources", Access::kRead);
    const std::vector<Array> to = arrays_of(outputs, "outputs", Access::kWrite);
    if (from.size() != to.size()) {
        fail("outputs must have as many arrays as sources, " + std::to_string(from.size()) +
             ", got " + std::to_string(to.size()));
    }
    const std::size_t count = i.length(0);
    std::vector<GatherField> fields;
    fields.reserve(from.size());
    std::size_t rows = SIZE_MAX;
    for (std::size_t k = 0; k < from.size(); ++k) {
        fields.push_back(checked_field(from[k], to[k], count));
        check_disjoint(to[k], {&i});
        rows = std::min(rows, fields.back().source_rows);
    }
    const std::int32_t* wanted = i.as<const std::int32_t>();
    const std::size_t bad = fields.empty() ? count : first_out_of_bounds(wanted, count, rows);
    if (bad < count) {
        const std::string message = "indices[" + std::to_string(bad) + "] must be in [0, " +
                                    std::to_string(rows) + "), got " + std::to_string(wanted[bad]);
        throw nb::index_error(message.c_str());
    }
    nb::gil_scoped_release released;
    for (const GatherField& field : fields) gather(field, wanted, count);
}

std::size_t py_episode_statistics(nb::handle rewards, nb::handle dones, nb::handle valid,
                                  nb::handle running_returns, nb::handle running_lengths,
                                  nb::handle finished_returns, nb::handle finished_lengths,
                                  nb::handle finished_envs) {
    Array r(rewards, "rewards"), d(dones, "dones"), ok(valid, "valid");
    Array run_ret(running_returns, "running_returns"), run_len(running_lengths, "running_lengths");
    Array end_ret(finished_returns, "finished_returns");
    Array end_len(finished_lengths, "finished_lengths"), end_env(finished_envs, "finished_envs");
    r.check(Dtype::kFloat32, Access::kRead).check_rank(1, "[N]");
    const std::size_t envs = r.length(0);
    d.check(Dtype::kMask, Access::kRead).check_shape({envs});
    ok.check(Dtype::kMask, Access::kRead).check_shape({envs});
    run_ret.check(Dtype::kFloat64, Access::kWrite).check_shape({envs});
    run_len.check(Dtype::kInt64, Access::kWrite).check_shape({envs});
    end_ret.check(Dtype::kFloat64, Access::kWrite).check_shape({envs});
    end_len.check(Dtype::kInt64, Access::kWrite).check_shape({envs});
    end_env.check(Dtype::kInt32, Access::kWrite).check_shape({envs});
    check_disjoint(end_ret, {&r, &d, &ok, &run_ret, &run_len, &end_len, &end_env});
    check_disjoint(end_len, {&r, &d, &ok, &run_ret, &run_len, &end_env});
    check_disjoint(end_env, {&r, &d, &ok, &run_ret, &run_len});
    check_disjoint(run_ret, {&r, &d, &ok, &run_len});
    check_disjoint(run_len, {&r, &d, &ok});
    const EpisodeArrays arrays = {r.as<const float>(),
                                  d.begin(),
                                  ok.begin(),
                                  run_ret.as<double>(),
                                  run_len.as<std::int64_t>(),
                                  end_ret.as<double>(),
                                  end_len.as<std::int64_t>(),
                                  end_env.as<std::int32_t>()};
    nb::gil_scoped_release released;
    return episode_statistics(arrays, envs);
}

// Any object, None too, reaches our own checks: nanobind's message would not name the argument.
auto operator""_any(const char* name, std::size_t) {
    return nb::arg(name).none();
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = docs::kModule;
    ndarray_type = nb::object(nb::module_::import_("numpy").attr("ndarray")).release().ptr();
    m.def("gae", py_gae, "rewards"_any, "values"_any, "dones"_any, "valid"_any, "last_values"_any,
          "gamma"_any, "gae_lambda"_any, "advantages"_any, "returns"_any, docs::kGae);
    m.def("discounted_returns", py_discounted_returns, "rewards"_any, "dones"_any, "valid"_any,
          "last_values"_any, "gamma"_any, "returns"_any, docs::kDiscountedReturns);
    m.def("update_moments", py_update_moments, "batch"_any, "mean"_any, "var"_any, "count"_any,
          docs::kUpdateMoments);
    m.def("normalize", py_normalize, "batch"_any, "mean"_any, "var"_any, "clip"_any, "epsilon"_any,
          "out"_any, docs::kNormalize);
    m.def("update_and_normalize", py_update_and_normalize, "batch"_any, "mean"_any, "var"_any,
          "count"_any, "clip"_any, "epsilon"_any, "out"_any, docs::kUpdateAndNormalize);
    m.def("shuffle", py_shuffle, "indices"_any, "state"_any, docs::kShuffle);
    m.def("gather", py_gather, "sources"_any, "indices"_any, "outputs"_any, docs::kGather);
    m.def("episode_statistics", py_episode_statistics, "rewards"_any, "dones"_any, "valid"_any,
          "running_returns"_any, "running_lengths"_any, "finished_returns"_any,
          "finished_lengths"_any, "finished_envs"_any, docs::kEpisodeStatistics);
    bind_replay(m);
    bind_sum_tree(m);
}
