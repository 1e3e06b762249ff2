// Perceptrons forward and backward, a batch of rows at once.
#pragma once

#include "engine.hpp"
#include "products.hpp"
#include "team.hpp"

namespace tensor_optix {
namespace TENSOR_OPTIX_ISA {

// What a pass forward leaves for the pass backward, by layer.
struct Trace {
    float* outputs[kMostLayers];  // [rows, outputs], behind the activation
    float* before[kMostLayers];   // the same before it, where the gradient needs them; else null
};

namespace details {

template <typename Function>
TENSOR_OPTIX_INLINE void each(float* values, std::size_t count, Function function) {
    std::size_t i = 0;
    for (; i + kLanes <= count; i += kLanes) store(values + i, function(load(values + i), i));
    if (i < count) {
        const Vector last = function(load_part(values + i, count - i), i);
        store_part(values + i, last, count - i);
    }
}

TENSOR_OPTIX_INLINE Vector at(const float* values, std::size_t i, std::size_t count) {
    return i + kLanes <= count ? load(values + i) : load_part(values + i, count - i);
}

TENSOR_OPTIX_INLINE Vector logistic(Vector x) {
    // Of -|x|, so that the quotient's divisor is at most 2.
    const Vector decayed = exponential(x < Vector{} ? x : -x);
    const Vector lower = quotient(decayed, 1.0f + decayed);
    return x < Vector{} ? lower : 1.0f - lower;
}

}  // namespace details

inline void activate(Activation activation, float* values, std::size_t count) {
    using details::each;
    switch (activation) {
        case Activation::kIdentity:
            return;
        case Activation::kTanh:
            return each(values, count, [](Vector x, std::size_t) { return hyperbolic_tangent(x); });
        case Activation::kRelu:
            return;  // the product was rectified
        case Activation::kElu:
            return each(values, count, [](Vector x, std::size_t) {
                // Near 0, e^x - 1 would lose digits: half the difference of e^(x/2) and its inverse
                // keeps them.
                const Vector t = hyperbolic_tangent(0.5f * x);
                const Vector less = quotient(2.0f * t, 1.0f - t);
                return x > Vector{} ? x : less;
            });
        case Activation::kSilu:
            return each(values, count,
                        [](Vector x, std::size_t) { return x * details::logistic(x); });
    }
}

// Turns gradients with respect to a layer's outputs into those before its activation.
inline void deactivate(Activation activation, const float* outputs, const float* before,
                       float* gradients, std::size_t count) {
    using details::at;
    using details::each;
    switch (activation) {
        case Activation::kIdentity:
            return;
        case Activation::kTanh:
            return each(gradients, count, [=](Vector g, std::size_t i) {
                const Vector y = at(outputs, i, count);
                return g * (1.0f - y * y);
            });
        case Activation::kRelu:
            return each(gradients, count, [=](Vector g, std::size_t i) {
                return at(outputs, i, count) > Vector{} ? g : Vector{};
            });
        case Activation::kElu:
            return each(gradients, count, [=](Vector g, std::size_t i) {
                const Vector y = at(outputs, i, count);
                return y > Vector{} ? g : g * (y + 1.0f);
            });
        case Activation::kSilu:
            return each(gradients, count, [=](Vector g, std::size_t i) {
                const Vector x = at(before, i, count), s = details::logistic(x);
                return g * (s * (1.0f + x * (1.0f - s)));
            });
    }
}

inline std::size_t num_weights(const Network& network) {
    std::size_t count = 0;
    for (const Layer& layer : network.layers)
        count += layer.inputs * layer.outputs + (layer.bias ? layer.outputs : 0);
    return count;
}

inline std::size_t widest(const Network& network) {
    std::size_t width = network.inputs();
    for (const Layer& layer : network.layers) width = std::max(width, layer.outputs);
    return width;
}

// How many floats the passes of a network with so many rows take of a workspace.
inline std::size_t floats_of_passes(const Network& network, std::size_t rows) {
    std::size_t count =
        2 * Workspace::rounded(kPacked) + 2 * Workspace::rounded(rows * widest(network));
    for (const Layer& layer : network.layers) count += 2 * Workspace::rounded(rows * layer.outputs);
    return count;
}

inline void forward_layer(const Layer& layer, const float* inputs, std::size_t rows, float* outputs,
                          float* packed) {
    const Matrix weight = layer.is_by_outputs ? transposed(layer.weight, layer.inputs)
                                              : by_rows(layer.weight, layer.outputs);
    product(by_rows(inputs, layer.inputs), weight, layer.bias, rows, layer.outputs, layer.inputs,
            outputs, packed, layer.activation == Activation::kRelu);
}

// Returns the outputs, [rows, outputs], which are the trace's last.
inline float* forward(const Network& network, const float* inputs, std::size_t rows, Trace& trace,
                      Workspace& workspace) {
    const std::size_t layers = network.layers.size();
    float* const mark = workspace.take(kPacked);
    for (std::size_t l = 0; l < layers; ++l) {
        const Layer& layer = network.layers[l];
        const std::size_t count = rows * layer.outputs;
        float* const outputs = trace.outputs[l] = workspace.take(count);
        forward_layer(layer, inputs, rows, outputs, mark);
        trace.before[l] = nullptr;
        if (layer.activation == Activation::kSilu) {
            trace.before[l] = workspace.take(count);
            std::copy(outputs, outputs + count, trace.before[l]);
        }
        activate(layer.activation, outputs, count);
        inputs = outputs;
    }
    return trace.outputs[layers - 1];
}

namespace details {

// The sums of columns, [columns].
inline void sum_columns(const float* values, std::size_t rows, std::size_t columns, float* sums) {
    for (std::size_t j = 0; j < columns; j += kLanes) {
        const std::size_t width = std::min(columns - j, kLanes);
        Vector total{};
        for (std::size_t i = 0; i < rows; ++i) {
            const float* from = values + i * columns + j;
            total += width == kLanes ? load(from) : load_part(from, width);
        }
        store_part(sums + j, total, width);
    }
}

inline float* weight_gradients(const Layer& layer, const float* inputs, const float* gradients,
                               std::size_t rows, float* to, float* packed) {
    const std::size_t in = layer.inputs, out = layer.outputs;
    if (layer.is_by_outputs) {
        product(transposed(gradients, out), by_rows(inputs, in), nullptr, out, in, rows, to,
                packed);
    } else {
        product(transposed(inputs, in), by_rows(gradients, out), nullptr, in, out, rows, to,
                packed);
    }
    to += in * out;
    if (!layer.bias) return to;
    sum_columns(gradients, rows, out, to);
    return to + out;
}

}  // namespace details

// What is wanted of a pass backward.
struct Wanted {
    float* weights;  // gradients of all weights and biases in order; null: not wanted
    float* inputs;   // [rows, inputs - first]: gradients of the inputs from `first` on; null: not
                     // wanted
    std::size_t first;
};

// `gradients` [rows, outputs] are those with respect to the outputs; they are overwritten. What is
// computed of a layer's weights and of its inputs is shared by the team, if there is one.
inline void backward(const Network& network, const float* inputs, std::size_t rows,
                     const Trace& trace, float* gradients, const Wanted& wanted,
                     Workspace& workspace, Team* team = nullptr) {
    float* const packed = workspace.take(kPacked);
    float* const packed_of_weights = team ? workspace.take(kPacked) : packed;
    float* const buffers[2] = {workspace.take(rows * widest(network)),
                               workspace.take(rows * widest(network))};
    float* to = wanted.weights ? wanted.weights + num_weights(network) : nullptr;
    for (std::size_t l = network.layers.size(); l-- > 0;) {
        const Layer& layer = network.layers[l];
        const float* below = l ? trace.outputs[l - 1] : inputs;
        deactivate(layer.activation, trace.outputs[l], trace.before[l], gradients,
                   rows * layer.outputs);
        if (to) to -= layer.inputs * layer.outputs + (layer.bias ? layer.outputs : 0);
        const auto of_weights = [&] {
            if (to) details::weight_gradients(layer, below, gradients, rows, to, packed_of_weights);
        };
        if (l == 0 && !wanted.inputs) return of_weights();
        const std::size_t first = l ? 0 : wanted.first;
        float* const next = l ? buffers[l % 2] : wanted.inputs;
        const auto of_inputs = [&] {
            const Matrix weight =
                layer.is_by_outputs
                    ? Matrix{layer.weight + first, layer.inputs, 1}
                    : Matrix{layer.weight + first * layer.outputs, 1, layer.outputs};
            product(by_rows(gradients, layer.outputs), weight, nullptr, rows, layer.inputs - first,
                    layer.outputs, next, packed);
        };
        both(to ? team : nullptr, of_inputs, of_weights);
        gradients = next;
    }
}

}  // namespace TENSOR_OPTIX_ISA
}  // namespace tensor_optix
