// Backward recurrences over a rollout [T, N]: in come rewards and masks, out go advantages and
// returns. Lanes are environments; a row is T's slowest index.
#pragma once

#include <algorithm>
#include <cstring>

#include "multiversioning.hpp"

namespace tensor_optix {

struct GaeArrays {
    const float* rewards;
    const float* values;
    const std::uint8_t* dones;
    const std::uint8_t* valid;
    const float* last_values;
    float* advantages;
    float* returns;
};

struct ReturnsArrays {
    const float* rewards;
    const std::uint8_t* dones;
    const std::uint8_t* valid;
    const float* last_values;
    float* returns;
};

namespace detail {

// Columns that the row-wise loops take at a time: what the widest vector of bytes unrolls to. The
// rest is walked column by column, which is faster than a loop's scalar tail.
constexpr std::size_t kWide = 32;

// A select spelled in bits. A NaN behind an episode end must not get through, as it would if a mask
// were multiplied in; and compilers turn this form, unlike `?:`, into vector code reliably.
TENSOR_OPTIX_INLINE float select(std::uint8_t flag, float if_set, float if_clear) {
    const std::uint32_t mask = flag != 0 ? ~std::uint32_t{0} : std::uint32_t{0};
    std::uint32_t set;
    std::uint32_t clear;
    std::memcpy(&set, &if_set, sizeof set);
    std::memcpy(&clear, &if_clear, sizeof clear);
    const std::uint32_t bits = (set & mask) | (clear & ~mask);
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

TENSOR_OPTIX_INLINE float advantage(float reward, float value, float next_value, float carry,
                                    std::uint8_t done, std::uint8_t valid, float gamma,
                                    float decay) {
    const float ended = reward - value;
    const float going = (reward + gamma * next_value - value) + decay * carry;
    return select(valid, select(done, ended, going), 0.0f);
}

TENSOR_OPTIX_INLINE float discounted(float reward, float carry, std::uint8_t done,
                                     std::uint8_t valid, float gamma) {
    return select(valid, select(done, reward, reward + gamma * carry), 0.0f);
}

// One row of many environments. Parameters, not locals, carry the promise that nothing overlaps:
// compilers believe it only there.
TENSOR_OPTIX_CLONES inline void gae_row(
    const float* TENSOR_OPTIX_RESTRICT rewards, const float* TENSOR_OPTIX_RESTRICT values,
    const float* TENSOR_OPTIX_RESTRICT next_values, const float* TENSOR_OPTIX_RESTRICT carry,
    const std::uint8_t* TENSOR_OPTIX_RESTRICT dones,
    const std::uint8_t* TENSOR_OPTIX_RESTRICT valid, float* TENSOR_OPTIX_RESTRICT advantages,
    float* TENSOR_OPTIX_RESTRICT returns, std::size_t envs, float gamma, float decay) noexcept {
    for (std::size_t n = 0; n < envs; ++n) {
        const float result = advantage(rewards[n], values[n], next_values[n], carry[n], dones[n],
                                       valid[n], gamma, decay);
        advantages[n] = result;
        returns[n] = select(valid[n], result + values[n], 0.0f);
    }
}

// `Width` columns, all rows: values and carries stay in registers. Blocks are copied in and out, so
// that the compiler need not fear that a store changes what it is about to load.
template <std::size_t Width>
TENSOR_OPTIX_INLINE void gae_columns(const GaeArrays& a, std::size_t rows, std::size_t envs,
                                     std::size_t column, float gamma, float decay) {
    float rewards[Width], values[Width], next_values[Width], carry[Width] = {}, returns[Width];
    std::uint8_t dones[Width], valid[Width];
    std::memcpy(next_values, a.last_values + column, sizeof next_values);
    for (std::size_t t = rows; t-- > 0;) {
        const std::size_t at = t * envs + column;
        std::memcpy(rewards, a.rewards + at, sizeof rewards);
        std::memcpy(values, a.values + at, sizeof values);
        std::memcpy(dones, a.dones + at, sizeof dones);
        std::memcpy(valid, a.valid + at, sizeof valid);
        for (std::size_t i = 0; i < Width; ++i) {
            carry[i] = advantage(rewards[i], values[i], next_values[i], carry[i], dones[i],
                                 valid[i], gamma, decay);
            returns[i] = select(valid[i], carry[i] + values[i], 0.0f);
            next_values[i] = values[i];
        }
        std::memcpy(a.advantages + at, carry, sizeof carry);
        std::memcpy(a.returns + at, returns, sizeof returns);
    }
}

// One environment is one long chain of dependent additions; a predicted branch, unlike a select,
// keeps the masks out of it.
inline void gae_column(const GaeArrays& a, std::size_t rows, std::size_t envs, std::size_t column,
                       float gamma, float decay) noexcept {
    float next_value = a.last_values[column];
    float carry = 0.0f;
    for (std::size_t t = rows; t-- > 0;) {
        const std::size_t at = t * envs + column;
        const float value = a.values[at];
        const float ended = a.rewards[at] - value;
        const float going = a.rewards[at] + gamma * next_value - value;
        carry = a.valid[at] == 0 ? 0.0f : a.dones[at] != 0 ? ended : going + decay * carry;
        a.advantages[at] = carry;
        a.returns[at] = a.valid[at] == 0 ? 0.0f : carry + value;
        next_value = value;
    }
}

// Columns from `n` on, all rows.
TENSOR_OPTIX_CLONES inline void gae_narrow(const GaeArrays& a, std::size_t rows, std::size_t envs,
                                           std::size_t n, float gamma, float decay) noexcept {
    for (; n + 16 <= envs; n += 16) gae_columns<16>(a, rows, envs, n, gamma, decay);
    for (; n + 8 <= envs; n += 8) gae_columns<8>(a, rows, envs, n, gamma, decay);
    for (; n + 4 <= envs; n += 4) gae_columns<4>(a, rows, envs, n, gamma, decay);
    for (; n < envs; ++n) gae_column(a, rows, envs, n, gamma, decay);
}

// The first `wide` columns, row by row with unit stride. The carry needs no memory of its own: it
// is the advantage row written last. The very last row has none, and is done as columns of
// height 1.
inline void gae_wide(const GaeArrays& a, std::size_t rows, std::size_t envs, std::size_t wide,
                     float gamma, float decay) noexcept {
    const std::size_t last = (rows - 1) * envs;
    const GaeArrays last_row = {a.rewards + last, a.values + last, a.dones + last,
                                a.valid + last,   a.last_values,   a.advantages + last,
                                a.returns + last};
    gae_narrow(last_row, 1, wide, 0, gamma, decay);
    for (std::size_t at = last; at > 0;) {
        at -= envs;
        gae_row(a.rewards + at, a.values + at, a.values + at + envs, a.advantages + at + envs,
                a.dones + at, a.valid + at, a.advantages + at, a.returns + at, wide, gamma, decay);
    }
}

}  // namespace detail

// Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438, eq. 16).
inline void gae(const GaeArrays& a, std::size_t rows, std::size_t envs, double gamma,
                double gae_lambda) noexcept {
    if (rows == 0 || envs == 0) return;
    const float discount = static_cast<float>(gamma);
    const float decay = static_cast<float>(gamma * gae_lambda);
    const std::size_t wide = envs - envs % detail::kWide;
    if (wide > 0) detail::gae_wide(a, rows, envs, wide, discount, decay);
    detail::gae_narrow(a, rows, envs, wide, discount, decay);
}

namespace detail {

TENSOR_OPTIX_CLONES inline void returns_row(const float* TENSOR_OPTIX_RESTRICT rewards,
                                            const float* TENSOR_OPTIX_RESTRICT carry,
                                            const std::uint8_t* TENSOR_OPTIX_RESTRICT dones,
                                            const std::uint8_t* TENSOR_OPTIX_RESTRICT valid,
                                            float* TENSOR_OPTIX_RESTRICT returns, std::size_t envs,
                                            float gamma) noexcept {
    for (std::size_t n = 0; n < envs; ++n) {
        returns[n] = discounted(rewards[n], carry[n], dones[n], valid[n], gamma);
    }
}

inline void returns_column(const ReturnsArrays& a, std::size_t rows, std::size_t envs,
                           std::size_t column, float gamma) noexcept {
    float carry = a.last_values[column];
    for (std::size_t t = rows; t-- > 0;) {
        const std::size_t at = t * envs + column;
        const float reward = a.rewards[at];
        carry = a.valid[at] == 0 ? 0.0f : a.dones[at] != 0 ? reward : reward + gamma * carry;
        a.returns[at] = carry;
    }
}

}  // namespace detail

// Discounted returns, G_t = r_t + gamma * G_{t+1}, cut at episode ends and seeded by last_values.
inline void discounted_returns(const ReturnsArrays& a, std::size_t rows, std::size_t envs,
                               double gamma) noexcept {
    const float discount = static_cast<float>(gamma);
    const std::size_t wide = envs - envs % detail::kWide;
    for (std::size_t t = rows; wide > 0 && t-- > 0;) {
        const std::size_t at = t * envs;
        const float* carry = t + 1 == rows ? a.last_values : a.returns + at + envs;
        detail::returns_row(a.rewards + at, carry, a.dones + at, a.valid + at, a.returns + at, wide,
                            discount);
    }
    for (std::size_t n = wide; n < envs; ++n) {
        detail::returns_column(a, rows, envs, n, discount);
    }
}

}  // namespace tensor_optix
