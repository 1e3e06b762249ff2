// The gradients of the losses with respect to what networks return. The formulas stand in
// tensor_optix/algorithms, as functions that frameworks differentiate: parity tests hold both
// together.
#pragma once

#include <cmath>

#include "engine.hpp"
#include "perceptron.hpp"

namespace tensor_optix {
namespace TENSOR_OPTIX_ISA {

constexpr float kMaskedLogit = -1e9f;
constexpr float kLogStdMin = -5.0f, kLogStdMax = 2.0f;
constexpr float kSquashEpsilon = 1e-6f;

// Of K choices, the logits of each of which lie side by side.
struct Choices {
    const std::size_t* counts;
    std::size_t choices;
    std::size_t logits;  // of all

    static Choices of(const std::vector<std::size_t>& counts) {
        std::size_t logits = 0;
        for (const std::size_t count : counts) logits += count;
        return {counts.data(), counts.size(), logits};
    }
};

inline void mask(float* logits, const std::uint8_t* masks, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
        if (!masks[i]) logits[i] = kMaskedLogit;
}

// Logits [rows, L] become log-probabilities, and `probs` the probabilities.
inline void log_softmax(const Choices& of, std::size_t rows, float* logits, float* probs) {
    float* row = logits;
    for (std::size_t i = 0; i < rows * of.choices; ++i) {
        const std::size_t count = of.counts[i % of.choices];
        float most = row[0];
        // NaN, which is no more than anything, stays where it is.
        for (std::size_t j = 1; j < count; ++j) most = row[j] > most ? row[j] : most;
        for (std::size_t j = 0; j < count; ++j) row[j] -= most;
        row += count;
    }
    const std::size_t all_logits = rows * of.logits;
    for (std::size_t i = 0; i < all_logits; i += kLanes) {
        const std::size_t width = std::min(all_logits - i, kLanes);
        store_part(probs + i, exponential(load_part(logits + i, width)), width);
    }
    row = logits;
    for (std::size_t i = 0; i < rows * of.choices; ++i) {
        const std::size_t count = of.counts[i % of.choices];
        float total = 0.0f;
        for (std::size_t j = 0; j < count; ++j) total += probs[j];
        const float log_total = std::log(total), inverse = 1.0f / total;
        for (std::size_t j = 0; j < count; ++j) {
            row[j] -= log_total;
            probs[j] *= inverse;
        }
        row += count;
        probs += count;
    }
}

// The log-probabilities [rows] of actions [rows, K]. An action that there is not makes it NaN.
inline void choice_log_probs(const Choices& of, const float* log_probs, const std::int64_t* actions,
                             std::size_t rows, float* chosen) {
    for (std::size_t i = 0; i < rows; ++i) {
        float total = 0.0f;
        for (std::size_t k = 0; k < of.choices; ++k) {
            const auto action = static_cast<std::size_t>(actions[i * of.choices + k]);
            total += action < of.counts[k] ? log_probs[action] : std::nanf("");
            log_probs += of.counts[k];
        }
        chosen[i] = total;
    }
}

// Log-probabilities [rows, L] become the gradient of `weights[i] * log_prob(i) - bonus *
// entropy(i)`, summed over rows, with respect to the logits. Returns the sum of the entropies.
inline double choice_gradients(const Choices& of, const float* probs, const std::int64_t* actions,
                               const float* weights, float bonus, std::size_t rows,
                               const std::uint8_t* masks, float* log_probs) {
    double entropies = 0.0;
    const std::uint8_t* allowed = masks;
    for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t k = 0; k < of.choices; ++k) {
            const std::size_t count = of.counts[k];
            float entropy = 0.0f;
            for (std::size_t j = 0; j < count; ++j) entropy -= probs[j] * log_probs[j];
            for (std::size_t j = 0; j < count; ++j)
                log_probs[j] = probs[j] * (bonus * (log_probs[j] + entropy) - weights[i]);
            log_probs[actions[i * of.choices + k]] += weights[i];
            if (masks) {
                for (std::size_t j = 0; j < count; ++j)
                    if (!allowed[j]) log_probs[j] = 0.0f;
                allowed += count;
            }
            entropies += static_cast<double>(entropy);
            log_probs += count;
            probs += count;
        }
    }
    return entropies;
}

// 1 - tanh(u)^2, of which the difference would lose its digits where tanh is near 1.
TENSOR_OPTIX_INLINE Vector squashing(Vector u) {
    const Vector decayed = exponential(u > Vector{} ? -2.0f * u : 2.0f * u);
    const Vector sum = 1.0f + decayed;
    return quotient(4.0f * decayed, sum * sum);
}

// log(1 - tanh(u)^2 + 1e-6)
TENSOR_OPTIX_INLINE Vector log_squashing(Vector u) {
    return logarithm(squashing(u) + kSquashEpsilon);
}

// The log-densities [rows] of actions tanh(u), u [rows, A], for outputs [rows, 2A].
inline void squashed_log_probs(const float* outputs, const float* actions, std::size_t rows,
                               std::size_t size, float* log_probs) {
    constexpr float kHalfLog2Pi = 0.91893853f;
    for (std::size_t i = 0; i < rows; ++i, outputs += 2 * size, actions += size) {
        Vector total{};
        for (std::size_t j = 0; j < size; j += kLanes) {
            const std::size_t width = std::min(size - j, kLanes);
            const Vector mean = load_part(outputs + j, width), u = load_part(actions + j, width);
            const Vector log_std =
                limited(load_part(outputs + size + j, width), kLogStdMin, kLogStdMax);
            const Vector z = (u - mean) * exponential(-log_std);
            const Vector each = -0.5f * (z * z) - kHalfLog2Pi - log_std - log_squashing(u);
            float parts[kLanes] = {};
            store_part(parts, each, width);
            total += load(parts);
        }
        log_probs[i] = sum(total);
    }
}

// As `choice_gradients`: outputs [rows, 2A] become the gradient. The entropy is the Gaussian's.
inline double squashed_gradients(const float* actions, const float* weights, float bonus,
                                 std::size_t rows, std::size_t size, float* outputs) {
    constexpr float kHalfLog2PiE = 1.41893853f;
    double entropies = 0.0;
    for (std::size_t i = 0; i < rows; ++i, outputs += 2 * size, actions += size) {
        float entropy = 0.0f;
        for (std::size_t j = 0; j < size; j += kLanes) {
            const std::size_t width = std::min(size - j, kLanes);
            const Vector raw = load_part(outputs + size + j, width);
            const Vector log_std = limited(raw, kLogStdMin, kLogStdMax);
            const Vector inverse = exponential(-log_std);
            const Vector z =
                (load_part(actions + j, width) - load_part(outputs + j, width)) * inverse;
            const Vector slope = weights[i] * (z * z - 1.0f) - bonus;
            store_part(outputs + j, weights[i] * z * inverse, width);
            store_part(outputs + size + j, raw == log_std ? slope : Vector{}, width);
            for (std::size_t lane = 0; lane < width; ++lane) entropy += log_std[lane];
        }
        entropies += static_cast<double>(entropy + static_cast<float>(size) * kHalfLog2PiE);
    }
    return entropies;
}

struct Surrogate {
    double policy_loss, approx_kl;  // sums over rows
};

// The clipped surrogate (Schulman et al. 2017, eq. 7): `log_probs` become its gradient with respect
// to them, divided by the number of rows.
inline Surrogate surrogate(const float* old_log_probs, const float* advantages, float clip_ratio,
                           std::size_t rows, float* log_probs) {
    const float share = 1.0f / static_cast<float>(rows);
    const float low = 1.0f - clip_ratio, high = 1.0f + clip_ratio;
    float losses = 0.0f, divergences = 0.0f;
    for (std::size_t i = 0; i < rows; i += kLanes) {
        const std::size_t width = std::min(rows - i, kLanes);
        const Vector log_ratio =
            load_part(log_probs + i, width) - load_part(old_log_probs + i, width);
        const Vector ratio = exponential(log_ratio), advantage = load_part(advantages + i, width);
        const Vector plain = ratio * advantage, clipped = limited(ratio, low, high) * advantage;
        // Within the limits both are the same, and the gradient is theirs.
        const Vector gain = plain > clipped ? clipped : plain;
        const Vector slope = plain > clipped ? Vector{} : plain;
        store_part(log_probs + i, -share * slope, width);
        const Vector divergence = (ratio - 1.0f) - log_ratio;
        for (std::size_t lane = 0; lane < width; ++lane) {
            losses -= gain[lane];
            divergences += divergence[lane];
        }
    }
    return {static_cast<double>(losses), static_cast<double>(divergences)};
}

struct TdErrors {
    double squares, sizes;  // sums over rows, of weighted squares and of absolute errors
};

// Values [rows], of actions that were taken, become the gradient of the mean of weighted squares
// (Schaul et al. 2016, algorithm 1); the errors go out.
inline TdErrors td_errors(const float* targets, const float* weights, std::size_t rows,
                          float* values, float* errors) {
    const float share = 2.0f / static_cast<float>(rows);
    float squares = 0.0f, sizes = 0.0f;
    for (std::size_t i = 0; i < rows; ++i) {
        const float error = targets[i] - values[i];
        squares += weights[i] * error * error;
        sizes += std::fabs(error);
        errors[i] = error;
        values[i] = -share * weights[i] * error;
    }
    return {static_cast<double>(squares), static_cast<double>(sizes)};
}

// Values [rows, A] become, each row, its largest at `largest`, over the actions that are allowed.
inline void largest_values(const float* values, const std::uint8_t* masks, std::size_t rows,
                           std::size_t actions, float* largest) {
    for (std::size_t i = 0; i < rows; ++i) {
        float most = masks && !masks[i * actions] ? kMaskedLogit : values[i * actions];
        for (std::size_t j = 1; j < actions; ++j) {
            const std::size_t at = i * actions + j;
            const float value = masks && !masks[at] ? kMaskedLogit : values[at];
            // NaN is kept, whichever comes first.
            most = value > most || value != value ? value : most;
        }
        largest[i] = most;
    }
}

// Draws tanh(mean + std * noise) for outputs [rows, 2A] (Haarnoja et al. 2018): actions are written
// into rows of `stride` floats. `log_probs`, if any, are their log-densities.
inline void squashed_draw(const float* outputs, const float* noise, std::size_t rows,
                          std::size_t size, float* actions, std::size_t stride, float* log_probs) {
    constexpr float kHalfLog2Pi = 0.91893853f;
    for (std::size_t i = 0; i < rows; ++i, outputs += 2 * size, noise += size, actions += stride) {
        float total = 0.0f;
        for (std::size_t j = 0; j < size; j += kLanes) {
            const std::size_t width = std::min(size - j, kLanes);
            const Vector log_std =
                limited(load_part(outputs + size + j, width), kLogStdMin, kLogStdMax);
            const Vector z = load_part(noise + j, width);
            const Vector u = load_part(outputs + j, width) + exponential(log_std) * z;
            store_part(actions + j, hyperbolic_tangent(u), width);
            const Vector each = -0.5f * (z * z) - kHalfLog2Pi - log_std - log_squashing(u);
            for (std::size_t lane = 0; lane < width; ++lane) total += each[lane];
        }
        log_probs[i] = total;
    }
}

// Outputs [rows, 2A] become the gradient of `sum(alpha * log_prob) / rows`, and of what has the
// gradient `of_actions` [rows, A] with respect to the actions drawn.
inline void squashed_draw_gradients(const float* noise, const float* of_actions, float alpha,
                                    std::size_t rows, std::size_t size, float* outputs) {
    const float share = alpha / static_cast<float>(rows);
    for (std::size_t i = 0; i < rows; ++i, outputs += 2 * size, noise += size, of_actions += size) {
        for (std::size_t j = 0; j < size; j += kLanes) {
            const std::size_t width = std::min(size - j, kLanes);
            const Vector raw = load_part(outputs + size + j, width);
            const Vector log_std = limited(raw, kLogStdMin, kLogStdMax);
            const Vector spread = exponential(log_std) * load_part(noise + j, width);
            const Vector u = load_part(outputs + j, width) + spread, slope = squashing(u);
            const Vector of_log =
                quotient(2.0f * hyperbolic_tangent(u) * slope, slope + kSquashEpsilon);
            const Vector of_u = share * of_log + load_part(of_actions + j, width) * slope;
            store_part(outputs + j, of_u, width);
            store_part(outputs + size + j, raw == log_std ? of_u * spread - share : Vector{},
                       width);
        }
    }
}

// Values [rows] become the gradient of `scale * mean((value - target)^2)`. Returns the sum of
// squares.
inline double squared_errors(const float* targets, float scale, std::size_t rows, float* values) {
    const float share = 2.0f * scale / static_cast<float>(rows);
    float total = 0.0f;
    for (std::size_t i = 0; i < rows; ++i) {
        const float error = values[i] - targets[i];
        total += error * error;
        values[i] = share * error;
    }
    return static_cast<double>(total);
}

}  // namespace TENSOR_OPTIX_ISA
}  // namespace tensor_optix
