// The engine's classes and functions of Python. They refuse what does not fit, as those in bindings.cpp
// do; networks and optimizers hold the arrays that they were made of.
#include <memory>

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

// Weights and biases of a perceptron, in the caller's memory.
class BoundPerceptron {
  public:
    explicit BoundPerceptron(nb::list layers) : held_(2 * length(layers)) {
        require(length(layers) > 0 && length(layers) <= kMostLayers);
        for (const nb::handle layer : layers) add(nb::borrow<nb::tuple>(layer));
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
        require(length(parts) == 4);
        const auto weight = held_.ranked<float>(parts[0], 2);
        const bool by_outputs = nb::cast<bool>(parts[3]);
        const std::size_t activation = whole_number(parts[2], 0);
        require(activation <= static_cast<std::size_t>(Activation::kSilu));
        Layer layer = {weight.data, nullptr, weight.length(by_outputs ? 1 : 0),
                       weight.length(by_outputs ? 0 : 1), by_outputs,
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
        for (const nb::handle leaf : leaves) add(nb::borrow<nb::tuple>(leaf));
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
                require(weight.values == layer.weight && weight.size == layer.inputs * layer.outputs);
                if (!layer.bias) continue;
                const Leaf& bias = optimizer_.leaves[at++];
                require(bias.values == layer.bias && bias.size == layer.outputs);
            }
        }
        require(at == optimizer_.leaves.size());
        return optimizer_;
    }

  private:
    void add(const nb::tuple& parts) {
        require(length(parts) == 4);
        const Py_buffer& values = held_.open<float>(parts[0]);
        require(holds<float>(values));
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
        const Py_buffer& values = held_.open<float>(object);
        require(holds<float>(values) && static_cast<std::size_t>(values.len) == size * sizeof(float));
        return static_cast<float*>(values.buf);
    }

    Arguments held_;
    Optimizer optimizer_{};
};

const float* optional(Arguments& a, nb::handle object, std::initializer_list<std::size_t> shape) {
    return object.is_none() ? nullptr : a.array<const float>(object, shape);
}

void py_product(nb::handle left, bool left_transposed, nb::handle right, bool right_transposed,
                nb::handle bias, nb::handle result, Workspace& workspace) {
    Arguments a;
    const auto l = a.ranked<const float>(left, 2), r = a.ranked<const float>(right, 2);
    const std::size_t rows = l.length(left_transposed), depth = l.length(!left_transposed);
    const std::size_t columns = r.length(!right_transposed);
    require(r.length(right_transposed) == depth);
    const float* begin = optional(a, bias, {columns});
    float* out = a.array<float>(result, {rows, columns});
    a.require_disjoint();
    nb::gil_scoped_release released;
    engine().product(l.data, left_transposed, r.data, right_transposed, begin, rows, columns, depth,
                     out, workspace);
}

void py_forward(const BoundPerceptron& network, nb::handle inputs, nb::handle outputs,
                Workspace& workspace) {
    Arguments a;
    const auto in = a.ranked<const float>(inputs, 2);
    require(in.length(1) == network.network().inputs());
    float* out = a.array<float>(outputs, {in.length(), network.network().outputs()});
    a.require_disjoint();
    nb::gil_scoped_release released;
    engine().forward(network.network(), in.data, in.length(), out, workspace);
}

std::vector<std::size_t> counts_of(nb::handle counts, std::size_t logits) {
    std::vector<std::size_t> found;
    std::size_t total = 0;
    for (const nb::handle count : nb::borrow<nb::sequence>(counts)) {
        found.push_back(whole_number(count, 1));
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

nb::tuple py_ppo(const BoundPerceptron& actor, const BoundPerceptron& critic, BoundOptimizer& optimizer,
                 Workspace& workspace, nb::tuple fields, nb::handle counts, nb::tuple settings) {
    Arguments a;
    const Network &policy = actor.network(), &values = critic.network();
    require(length(fields) == 6 && length(settings) == 5);
    const auto observations = a.ranked<const float>(fields[0], 2);
    const std::size_t rows = observations.length(), logits = policy.outputs();
    require(observations.length(1) == policy.inputs() && values.inputs() == policy.inputs());
    require(values.outputs() == 1);
    PpoSettings chosen = {counts_of(counts, logits), whole_number(settings[0], 1), number(settings[1]),
                          number(settings[2]), number(settings[3]), number(settings[4])};
    const bool is_discrete = !chosen.counts.empty();
    require(is_discrete || logits % 2 == 0);
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
        nb::gil_scoped_release released;
        sums = engine().ppo(policy, values, descent, batch, chosen, workspace);
    }
    return nb::make_tuple(sums.policy_loss, sums.value_loss, sums.entropy, sums.approx_kl,
                          sums.grad_norm, sums.updates, sums.skipped);
}

}  // namespace

void bind_engine(nb::module_& m) {
    nb::class_<Workspace>(m, "EngineWorkspace").def(nb::init<>());
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
    m.def("engine_ppo", py_ppo);
}

}  // namespace tensor_optix
