// Optimizers: gradients come in, the caller's weights and moments change.
#pragma once

#include <cmath>

#include "engine.hpp"
#include "perceptron.hpp"

namespace tensor_optix {
namespace TENSOR_OPTIX_ISA {

inline double sum_of_squares(const float* values, std::size_t count) {
    Vector sums[4] = {};
    std::size_t i = 0;
    for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
        for (std::size_t part = 0; part < 4; ++part) {
            const Vector x = load(values + i + part * kLanes);
            sums[part] += x * x;
        }
    }
    double total = static_cast<double>(sum((sums[0] + sums[1]) + (sums[2] + sums[3])));
    for (; i < count; ++i) total += static_cast<double>(values[i]) * static_cast<double>(values[i]);
    return total;
}

// target += rate * (source - target), as PyTorch's lerp computes it; a rate of 1 copies.
inline void blend(float* target, const float* source, std::size_t count, double rate) {
    if (rate == 1.0) {
        std::copy(source, source + count, target);
        return;
    }
    const float share = static_cast<float>(rate), rest = static_cast<float>(1.0 - rate);
    details::each(target, count, [=](Vector x, std::size_t i) {
        const Vector y = details::at(source, i, count);
        return share < 0.5f ? x + share * (y - x) : y - (y - x) * rest;
    });
}

inline void blend(const Network& target, const Network& source, double rate) {
    for (std::size_t l = 0; l < source.layers.size(); ++l) {
        const Layer &to = target.layers[l], &from = source.layers[l];
        blend(to.weight, from.weight, from.inputs * from.outputs, rate);
        if (from.bias) blend(to.bias, from.bias, from.outputs, rate);
    }
}

namespace details {

// Of one step of Adam (Kingma and Ba 2015, algorithm 1), with the corrections of its moments drawn
// together.
struct AdamStep {
    float scale;  // of gradients
    float rate;   // the learning rate, corrected
    float root;   // what the root of the mean of squares is multiplied by
    float epsilon;
    float beta1_rest;  // 1 - beta1
    float beta2, beta2_rest;
    float decay;  // of weights, as part of the gradient
    float kept;   // of weights, where their decay is decoupled; else 1
};

inline AdamStep adam_step(const Optimizer& optimizer, double step, double scale) {
    const double first = 1.0 - std::pow(optimizer.beta1, step);
    const double second = std::sqrt(1.0 - std::pow(optimizer.beta2, step));
    const bool is_keras = optimizer.rule == Rule::kKerasAdam;
    const auto single = [](double x) { return static_cast<float>(x); };
    return {single(scale),
            single(is_keras ? optimizer.rate * second / first : optimizer.rate / first),
            single(is_keras ? 1.0 : 1.0 / second),
            single(optimizer.epsilon),
            single(1.0 - optimizer.beta1),
            single(optimizer.beta2),
            single(1.0 - optimizer.beta2),
            single(optimizer.is_decoupled ? 0.0 : optimizer.decay),
            single(optimizer.is_decoupled ? 1.0 - optimizer.rate * optimizer.decay : 1.0)};
}

inline void adam(const AdamStep& s, const float* gradients, const Leaf& leaf) {
    const std::size_t count = leaf.size;
    each(leaf.values, count, [&](Vector x, std::size_t i) {
        const Vector g = at(gradients, i, count) * s.scale + s.decay * x;
        Vector m = at(leaf.first, i, count), v = at(leaf.second, i, count);
        m += s.beta1_rest * (g - m);
        v = s.beta2 * v + s.beta2_rest * (g * g);
        const std::size_t width = std::min(count - i, kLanes);
        if (width == kLanes) {
            store(leaf.first + i, m);
            store(leaf.second + i, v);
        } else {
            store_part(leaf.first + i, m, width);
            store_part(leaf.second + i, v, width);
        }
        return s.kept * x - quotient(s.rate * m, square_root(v) * s.root + s.epsilon);
    });
}

inline void sgd(const Optimizer& optimizer, double scale, const float* gradients,
                const Leaf& leaf) {
    const std::size_t count = leaf.size;
    const float rate = static_cast<float>(optimizer.rate), by = static_cast<float>(scale);
    const float momentum = static_cast<float>(optimizer.beta1);
    const float decay = static_cast<float>(optimizer.decay);
    each(leaf.values, count, [&](Vector x, std::size_t i) {
        Vector g = at(gradients, i, count) * by + decay * x;
        if (leaf.first) {
            const Vector m = momentum * at(leaf.first, i, count) + g;
            store_part(leaf.first + i, m, std::min(count - i, kLanes));
            g = optimizer.is_nesterov ? g + momentum * m : m;
        }
        return x - rate * g;
    });
}

}  // namespace details

// One step of the leaves from `begin` to `end`, along `gradients` of these in order, times `scale`.
inline void descend(const Optimizer& optimizer, std::size_t begin, std::size_t end,
                    const float* gradients, double scale) {
    double known = -1.0;
    details::AdamStep step{};
    for (std::size_t l = begin; l < end; ++l) {
        const Leaf& leaf = optimizer.leaves[l];
        if (leaf.step) *leaf.step += 1.0f;
        if (optimizer.rule == Rule::kSgd) {
            details::sgd(optimizer, scale, gradients, leaf);
        } else {
            const double count =
                leaf.step ? static_cast<double>(*leaf.step) : static_cast<double>(*optimizer.step);
            if (count != known) step = details::adam_step(optimizer, known = count, scale);
            details::adam(step, gradients, leaf);
        }
        gradients += leaf.size;
    }
}

// The gradients of the weights of one network or two, side by side in the order of the optimizer's
// leaves.
struct Gradients {
    const float* data;
    const std::size_t* sizes;   // how many are each network's
    const std::size_t* leaves;  // how many leaves each has
    std::size_t networks;
};

// One step, unless the loss or the gradients are not finite. Each network's are scaled down to
// `max_norm`. Returns the norm of all before that, NaN if the step was left out. A team shares the
// work by networks.
inline double descend(Optimizer& optimizer, const Gradients& gradients, double max_norm,
                      double loss, Team* team = nullptr) {
    double squares[2] = {0.0, 0.0};
    const auto measure = [&](std::size_t n) {
        squares[n] = sum_of_squares(gradients.data + n * gradients.sizes[0], gradients.sizes[n]);
    };
    const auto step = [&](std::size_t n) {
        const double norm = std::sqrt(squares[n]);
        const std::size_t first = n * gradients.leaves[0];
        descend(optimizer, first, first + gradients.leaves[n],
                gradients.data + n * gradients.sizes[0], norm > max_norm ? max_norm / norm : 1.0);
    };
    const bool has_second = gradients.networks == 2;
    const auto of_both = [&](const auto& each) {
        if (!has_second) return each(0);
        both(team, [&] { each(0); }, [&] { each(1); });
    };
    of_both(measure);
    const double total = squares[0] + squares[1];
    if (!std::isfinite(total) || !std::isfinite(loss)) return std::nan("");
    if (optimizer.step) ++*optimizer.step;
    of_both(step);
    return std::sqrt(total);
}

}  // namespace TENSOR_OPTIX_ISA
}  // namespace tensor_optix
