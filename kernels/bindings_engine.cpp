// The engine's classes and functions of Python. They refuse what does not fit, as those in
// bindings.cpp do; networks and optimizers hold the arrays that they were made of.
#include <memory>
#include <mutex>

#include "bindings_arguments.hpp"
#include "engine.hpp"

using namespace tensor_optix;

namespace tensor_optix {

namespace {

std::size_t length(nb::handle sequence) {
    const Py_ssize_t count = PyObject_Length(sequence.ptr());
    if (count < 0) PyErr_Clear();
    require(count >= 0);
    return static_cast<std::size_t>(count);
}

// A tuple's items are read unseen, so that nothing else may pass for one.
nb::tuple parts_of(nb::handle object, std::size_t count) {
    require(PyTuple_Check(object.ptr()) && length(object) == count);
    return nb::borrow<nb::tuple>(object);
}

// A workspace, which one call at a time may use.
struct BoundWorkspace {
    explicit BoundWorkspace(std::size_t threads) : workspace(threads) {}

    Workspace workspace;
    std::mutex mutex;
};

// A call without Python's lock, which is given up first, so that the call that is waited for can
// end.
struct Call {
    explicit Call(BoundWorkspace& bound) : lock(bound.mutex) {}

    nb::gil_scoped_release released;
    std::lock_guard<std::mutex> lock;
};

// One of the classes below.
template <typename Bound>
Bound& bound_of(nb::handle object) {
    require(nb::isinstance<Bound>(object) && nb::inst_ready(object));
    return *nb::inst_ptr<Bound>(object);
}

bool flag(nb::handle object) {
    require(PyBool_Check(object.ptr()));
    return object.is(Py_True);
}

// Weights and biases of a perceptron, in the caller's memory.
class BoundPerceptron {
  public:
    explicit BoundPerceptron(nb::list layers) : held_(2 * length(layers)) {
        require(length(layers) > 0 && length(layers) <= kMostLayers);
        for (const nb::handle layer : layers) add(parts_of(layer, 4));
    }

    const Network& network() const {
        return network_;
    }
    std::size_t leaves() const {
        std::size_t count = 0;
        for (const Layer& layer : network_.layers) count += layer.bias ? 2 : 1;
        return count;
    }

  private:
    void add(const nb::tuple& parts) {
        const auto weight = held_.ranked<float>(parts[0], 2);
        const bool by_outputs = flag(parts[3]);
        const std::size_t activation = whole_number(parts[2], 0);
        require(activation <= static_cast<std::size_t>(Activation::kSilu));
        Layer layer = {weight.data,
                       nullptr,
                       weight.length(by_outputs ? 1 : 0),
                       weight.length(by_outputs ? 0 : 1),
                       by_outputs,
                       static_cast<Activation>(activation)};
        require(layer.inputs > 0 && layer.outputs > 0);
        require(network_.layers.empty() || network_.layers.back().outputs == layer.inputs);
        if (!parts[1].is_none()) layer.bias = held_.array<float>(parts[1], {layer.outputs});
        network_.layers.push_back(layer);
    }

    Arguments held_;
    Network network_;
};

// The settings and the moments of an optimizer, in the caller's memory.
class BoundOptimizer {
  public:
    BoundOptimizer(std::size_t rule, bool is_decoupled, bool is_nesterov, nb::list leaves,
                   nb::handle step)
        : held_(4 * length(leaves) + 1) {
        require(rule <= static_cast<std::size_t>(Rule::kSgd));
        optimizer_.rule = static_cast<Rule>(rule);
        optimizer_.is_decoupled = is_decoupled;
        optimizer_.is_nesterov = is_nesterov;
        optimizer_.step = step.is_none() ? nullptr : held_.array<std::int64_t>(step, {1});
        for (const nb::handle leaf : leaves) add(parts_of(leaf, 4));
        held_.require_disjoint();
    }

    void set(double rate, double beta1, double beta2, double epsilon, double decay) {
        optimizer_.rate = rate;
        optimizer_.beta1 = beta1;
        optimizer_.beta2 = beta2;
        optimizer_.epsilon = epsilon;
        optimizer_.decay = decay;
    }

    // Its leaves must be the weights of these networks, in order.
    Optimizer& of(std::initializer_list<const BoundPerceptron*> networks) {
        std::size_t at = 0;
        for (const BoundPerceptron* bound : networks) {
            require(at + bound->leaves() <= optimizer_.leaves.size());
            for (const Layer& layer : bound->network().layers) {
                const Leaf& weight = optimizer_.leaves[at++];
                require(weight.values == layer.weight &&
                        weight.size == layer.inputs * layer.outputs);
                if (!layer.bias) continue;
                const Leaf& bias = optimizer_.leaves[at++];
                require(bias.values == layer.bias && bias.size == layer.outputs);
            }
        }
        require(at == optimizer_.leaves.size());
        return optimizer_;
    }

    // Its one leaf must be this number.
    Optimizer& of_number(const float* number) {
        require(optimizer_.leaves.size() == 1);
        require(optimizer_.leaves[0].values == number && optimizer_.leaves[0].size == 1);
        return optimizer_;
    }

  private:
    void add(const nb::tuple& parts) {
        const Py_buffer& values = numbers(parts[0]);
        Leaf leaf = {static_cast<float*>(values.buf), nullptr, nullptr, nullptr,
                     static_cast<std::size_t>(values.len) / sizeof(float)};
        leaf.first = moments(parts[1], leaf.size);
        leaf.second = moments(parts[2], leaf.size);
        if (!parts[3].is_none()) leaf.step = held_.array<float>(parts[3], {1});
        if (optimizer_.rule != Rule::kSgd) {
            require(leaf.first && leaf.second && (leaf.step || optimizer_.step));
        }
        optimizer_.leaves.push_back(leaf);
    }

    float* moments(nb::handle object, std::size_t size) {
        if (object.is_none()) return nullptr;
        const Py_buffer& values = numbers(object);
        require(static_cast<std::size_t>(values.len) == size * sizeof(float));
        return static_cast<float*>(values.buf);
    }

    // An array of any shape.
    const Py_buffer& numbers(nb::handle object) {
        const Py_buffer& view = held_.open<float>(object);
        require(holds<float>(view) &&
                reinterpret_cast<std::uintptr_t>(view.buf) % sizeof(float) == 0);
        return view;
    }

    Arguments held_;
    Optimizer optimizer_{};
};

const float* optional(Arguments& a, nb::handle object, std::initializer_list<std::size_t> shape) {
    return object.is_none() ? nullptr : a.array<const float>(object, shape);
}

void py_product(nb::handle left, bool left_transposed, nb::handle right, bool right_transposed,
                nb::handle bias, nb::handle result, BoundWorkspace& bound) {
    Arguments a;
    const auto l = a.ranked<const float>(left, 2), r = a.ranked<const float>(right, 2);
    const std::size_t rows = l.length(left_transposed), depth = l.length(!left_transposed);
    const std::size_t columns = r.length(!right_transposed);
    require(r.length(right_transposed) == depth);
    const float* begin = optional(a, bias, {columns});
    float* out = a.array<float>(result, {rows, columns});
    a.require_disjoint();
    const Call call(bound);
    engine().product(l.data, left_transposed, r.data, right_transposed, begin, rows, columns, depth,
                     out, bound.workspace);
}

void py_forward(const BoundPerceptron& network, nb::handle inputs, nb::handle outputs,
                BoundWorkspace& bound) {
    Arguments a;
    const auto in = a.ranked<const float>(inputs, 2);
    require(in.length(1) == network.network().inputs());
    float* out = a.array<float>(outputs, {in.length(), network.network().outputs()});
    a.require_disjoint();
    const Call call(bound);
    engine().forward(network.network(), in.data, in.length(), out, bound.workspace);
}

std::vector<std::size_t> counts_of(nb::handle counts, std::size_t logits) {
    std::vector<std::size_t> found;
    std::size_t total = 0;
    for (const nb::handle count : nb::borrow<nb::sequence>(counts)) {
        found.push_back(whole_number(count, 1));
        require(found.back() <= logits);  // The sum of larger ones may wrap around.
        total += found.back();
    }
    require(found.empty() || total == logits);
    return found;
}

// Discrete actions [R, K] within their counts.
const std::int64_t* choices_of(Arguments& a, nb::handle actions, std::size_t rows,
                               const std::vector<std::size_t>& counts) {
    const std::int64_t* choices = a.array<const std::int64_t>(actions, {rows, counts.size()});
    std::size_t outside = 0;
    for (std::size_t i = 0; i < rows * counts.size(); ++i)
        outside += static_cast<std::uint64_t>(choices[i]) >= counts[i % counts.size()];
    require(outside == 0);
    return choices;
}

void py_log_probs(const BoundPerceptron& actor, BoundWorkspace& bound, nb::handle counts,
                  nb::handle observations, nb::handle actions, nb::handle masks, nb::handle found) {
    Arguments a;
    const Network& policy = actor.network();
    const auto o = a.ranked<const float>(observations, 2);
    const std::size_t rows = o.length(), logits = policy.outputs();
    require(o.length(1) == policy.inputs());
    const std::vector<std::size_t> chosen = counts_of(counts, logits);
    require(!chosen.empty() || (logits % 2 == 0 && masks.is_none()));
    PpoBatch batch{};
    batch.observations = o.data;
    batch.rows = rows;
    if (chosen.empty()) {
        batch.actions = a.array<const float>(actions, {rows, logits / 2});
    } else {
        batch.choices = choices_of(a, actions, rows, chosen);
    }
    if (!masks.is_none()) batch.masks = a.array<const std::uint8_t>(masks, {rows, logits});
    float* out = a.array<float>(found, {rows});
    a.require_disjoint();
    const Call call(bound);
    engine().log_probs(policy, batch, chosen, out, bound.workspace);
}

nb::tuple py_ppo(const BoundPerceptron& actor, const BoundPerceptron& critic,
                 BoundOptimizer& optimizer, BoundWorkspace& bound, nb::tuple fields,
                 nb::handle counts, nb::tuple settings) {
    Arguments a;
    const Network &policy = actor.network(), &values = critic.network();
    require(length(fields) == 6 && length(settings) == 5);
    const auto observations = a.ranked<const float>(fields[0], 2);
    const std::size_t rows = observations.length(), logits = policy.outputs();
    require(observations.length(1) == policy.inputs() && values.inputs() == policy.inputs());
    require(values.outputs() == 1);
    PpoSettings chosen = {counts_of(counts, logits), whole_number(settings[0], 1),
                          number(settings[1]),       number(settings[2]),
                          number(settings[3]),       number(settings[4])};
    const bool is_discrete = !chosen.counts.empty();
    require(is_discrete || (logits % 2 == 0 && fields[2].is_none()));
    const PpoBatch batch = {
        observations.data,
        is_discrete ? choices_of(a, fields[1], rows, chosen.counts) : nullptr,
        is_discrete ? nullptr : a.array<const float>(fields[1], {rows, logits / 2}),
        fields[2].is_none() ? nullptr : a.array<const std::uint8_t>(fields[2], {rows, logits}),
        a.array<const float>(fields[3], {rows}),
        a.array<const float>(fields[4], {rows}),
        a.array<const float>(fields[5], {rows}),
        rows};
    Optimizer& descent = optimizer.of({&actor, &critic});
    PpoSums sums;
    {
        const Call call(bound);
        sums = engine().ppo(policy, values, descent, batch, chosen, bound.workspace);
    }
    return nb::make_tuple(sums.policy_loss, sums.value_loss, sums.entropy, sums.approx_kl,
                          sums.grad_norm, sums.updates, sums.skipped);
}

// The fields of batches of a replay, in order: observations, actions, rewards, next observations,
// discounts, weights, next masks, noise, next noise, errors.
ReplayRows replay_rows(Arguments& a, const nb::tuple& fields, std::size_t dims, std::size_t size,
                       bool is_discrete, nb::handle batch) {
    require(length(fields) == 10);
    const auto observations = a.ranked<const float>(fields[0], 2);
    const std::size_t rows = observations.length(), count = whole_number(batch, 1);
    require(observations.length(1) == dims && rows % count == 0);
    const auto wide = [&](nb::handle object) { return optional(a, object, {rows, size}); };
    const ReplayRows found = {
        observations.data,
        is_discrete ? choices_of(a, fields[1], rows, {size}) : nullptr,
        is_discrete ? nullptr : a.array<const float>(fields[1], {rows, size}),
        a.array<const float>(fields[2], {rows}),
        a.array<const float>(fields[3], {rows, dims}),
        a.array<const float>(fields[4], {rows}),
        a.array<const float>(fields[5], {rows}),
        fields[6].is_none() ? nullptr : a.array<const std::uint8_t>(fields[6], {rows, size}),
        wide(fields[7]),
        wide(fields[8]),
        a.array<float>(fields[9], {rows}),
        rows,
        count};
    a.require_disjoint();
    return found;
}

void require_alike(const Network& one, const Network& other) {
    require(one.layers.size() == other.layers.size());
    for (std::size_t l = 0; l < one.layers.size(); ++l) {
        const Layer &a = one.layers[l], &b = other.layers[l];
        require(a.inputs == b.inputs && a.outputs == b.outputs && a.activation == b.activation);
        require(a.is_by_outputs == b.is_by_outputs && !a.bias == !b.bias);
    }
}

nb::tuple py_dqn(const BoundPerceptron& network, const BoundPerceptron& target,
                 BoundOptimizer& optimizer, BoundWorkspace& bound, nb::tuple fields,
                 nb::handle batch, nb::handle max_grad_norm) {
    Arguments a;
    const Network& values = network.network();
    require_alike(values, target.network());
    // Discrete actions come as a column, as choices do.
    const ReplayRows rows = replay_rows(a, fields, values.inputs(), values.outputs(), true, batch);
    const double limit = number(max_grad_norm);
    Optimizer& descent = optimizer.of({&network});
    DqnSums sums;
    {
        const Call call(bound);
        sums = engine().dqn(values, target.network(), descent, rows, limit, bound.workspace);
    }
    return nb::make_tuple(sums.loss, sums.td_error_mean, sums.grad_norm, sums.updates,
                          sums.skipped);
}

TwinCritics twin_critics(const nb::tuple& networks, const nb::tuple& optimizers,
                         std::size_t outputs) {
    const auto network = [&](std::size_t i) -> const BoundPerceptron& {
        return bound_of<BoundPerceptron>(networks[i]);
    };
    const BoundPerceptron &actor = network(0), &critic1 = network(1), &critic2 = network(2);
    for (std::size_t i = 1; i < 3; ++i) {
        require(network(i).network().outputs() == 1);
        require_alike(network(i).network(), network(i + 2).network());
    }
    const std::size_t inputs = critic1.network().inputs(), dims = actor.network().inputs();
    require(inputs > dims && critic2.network().inputs() == inputs);
    require(actor.network().outputs() == outputs * (inputs - dims));
    auto& of_actor = bound_of<BoundOptimizer>(optimizers[0]);
    auto& of_critics = bound_of<BoundOptimizer>(optimizers[1]);
    return {actor.network(),
            critic1.network(),
            critic2.network(),
            network(3).network(),
            network(4).network(),
            of_actor.of({&actor}),
            of_critics.of({&critic1, &critic2})};
}

nb::tuple tuple_of(const TwinSums& sums) {
    return nb::make_tuple(sums.actor_loss, sums.critic_loss, sums.grad_norm, sums.alpha,
                          sums.entropy, sums.updates, sums.skipped, sums.actor_updates,
                          sums.actor_skipped);
}

nb::tuple py_sac(nb::tuple networks, nb::tuple optimizers, nb::handle log_alpha,
                 BoundWorkspace& bound, nb::tuple fields, nb::handle batch, nb::handle tau) {
    Arguments a;
    require(length(networks) == 5 && length(optimizers) == 3);
    const TwinCritics twins = twin_critics(networks, optimizers, 2);
    const std::size_t dims = twins.actor.inputs(), size = twins.critic1.inputs() - dims;
    const ReplayRows rows = replay_rows(a, fields, dims, size, false, batch);
    require(rows.noise && rows.next_noise);
    float* weight = a.array<float>(log_alpha, {1});
    Optimizer& of_alpha = bound_of<BoundOptimizer>(optimizers[2]).of_number(weight);
    const double rate = unit_number(tau);
    TwinSums sums;
    {
        const Call call(bound);
        sums = engine().sac(twins, weight, of_alpha, rows, rate, bound.workspace);
    }
    return tuple_of(sums);
}

nb::tuple py_td3(nb::tuple networks, nb::tuple optimizers, const BoundPerceptron& target_actor,
                 BoundWorkspace& bound, nb::tuple fields, nb::handle batch, nb::tuple settings) {
    Arguments a;
    require(length(networks) == 5 && length(optimizers) == 2 && length(settings) == 3);
    const TwinCritics twins = twin_critics(networks, optimizers, 1);
    require_alike(twins.actor, target_actor.network());
    const std::size_t dims = twins.actor.inputs(), size = twins.critic1.inputs() - dims;
    const ReplayRows rows = replay_rows(a, fields, dims, size, false, batch);
    require(rows.next_noise);
    const Td3Settings chosen = {target_actor.network(), unit_number(settings[0]),
                                whole_number(settings[1], 1), whole_number(settings[2], 1)};
    TwinSums sums;
    {
        const Call call(bound);
        sums = engine().td3(twins, rows, chosen, bound.workspace);
    }
    return tuple_of(sums);
}

nb::tuple py_policy_gradient(const BoundPerceptron& network, BoundOptimizer& optimizer,
                             BoundWorkspace& bound, nb::handle observations, nb::handle actions,
                             nb::handle targets) {
    Arguments a;
    const auto o = a.ranked<const float>(observations, 2);
    const std::size_t rows = o.length();
    require(rows > 0 && o.length(1) == network.network().inputs());
    const GradientBatch batch = {o.data,
                                 choices_of(a, actions, rows, {network.network().outputs()}),
                                 a.array<const float>(targets, {rows}), rows};
    Optimizer& descent = optimizer.of({&network});
    GradientSums sums;
    {
        const Call call(bound);
        sums = engine().policy_gradient(network.network(), descent, batch, bound.workspace);
    }
    return nb::make_tuple(sums.loss, sums.grad_norm, sums.updates, sums.skipped);
}

void py_blend(const BoundPerceptron& target, const BoundPerceptron& source, nb::handle rate) {
    require_alike(target.network(), source.network());
    engine().blend(target.network(), source.network(), unit_number(rate));
}

}  // namespace

void bind_engine(nb::module_& m) {
    engine();  // What cannot be had is refused when the extension is loaded.
    nb::class_<BoundWorkspace>(m, "EngineWorkspace")
        .def(nb::init<std::size_t>(), nb::arg("threads") = 1);
    nb::class_<BoundPerceptron>(m, "EnginePerceptron").def(nb::init<nb::list>());
    nb::class_<BoundOptimizer>(m, "EngineOptimizer")
        .def(nb::init<std::size_t, bool, bool, nb::list, nb::handle>(), nb::arg("rule"),
             nb::arg("is_decoupled"), nb::arg("is_nesterov"), nb::arg("leaves"),
             nb::arg("step").none())
        .def("set", &BoundOptimizer::set);
    m.def("engine_instructions", [] { return engine().instructions; });
    m.def("engine_product", py_product, nb::arg(), nb::arg(), nb::arg(), nb::arg(),
          nb::arg().none(), nb::arg(), nb::arg());
    m.def("engine_forward", py_forward);
    m.def("engine_log_probs", py_log_probs, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
          nb::arg().none(), nb::arg());
    m.def("engine_ppo", py_ppo);
    m.def("engine_dqn", py_dqn);
    m.def("engine_sac", py_sac);
    m.def("engine_td3", py_td3);
    m.def("engine_policy_gradient", py_policy_gradient);
    m.def("engine_blend", py_blend);
}

}  // namespace tensor_optix
