// Powers of positive numbers: the same operations in every backend, so the same bits, and no call
// into the mathematical library, so that loops over them are vectorised.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "multiversioning.hpp"

namespace tensor_optix {
namespace detail {

// 1.5 * 2**52: added to a number, it rounds it to a whole one, which the low bits then hold.
constexpr double kWhole = 6755399441055744.0;
constexpr std::uint64_t kWholeBits = 0x4338000000000000u;

template <typename To, typename From>
TENSOR_OPTIX_INLINE To bits_of(From from) {
    static_assert(sizeof(To) == sizeof(From), "the bits of one must fit the other");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

// log2(x) of a normal positive x = 2**k * m, m in [sqrt(1/2), sqrt(2)), by the series of
// 2 artanh((m - 1) / (m + 1)); the first term left out is below 1e-10.
TENSOR_OPTIX_INLINE double log2_of(double x) {
    constexpr std::uint64_t root_half = 0x3fe6a09e667f3bcdu;
    const std::uint64_t bits = bits_of<std::uint64_t>(x);
    const std::uint64_t exponent = (bits - root_half) & 0xfff0000000000000u;
    const double m = bits_of<double>(bits - exponent);
    const std::uint64_t k = (exponent >> 52) - ((exponent >> 63) << 12);
    const double s = (m - 1.0) / (m + 1.0), q = s * s;
    double series = q * (1.0 / 11.0) + 1.0 / 9.0;
    series = q * series + 1.0 / 7.0;
    series = q * series + 1.0 / 5.0;
    series = q * series + 1.0 / 3.0;
    series = q * series + 1.0;
    constexpr double two_over_log2 = 2.8853900817779268;
    return (bits_of<double>(kWholeBits + k) - kWhole) + s * series * two_over_log2;
}

// 2**y for |y| < 1000, by the Taylor series of exp; the first term left out is below 1e-9.
TENSOR_OPTIX_INLINE double exp2_of(double y) {
    constexpr double log2 = 0.6931471805599453;
    const double whole = y + kWhole;
    const double r = (y - (whole - kWhole)) * log2;
    double series = r * (1.0 / 5040.0) + 1.0 / 720.0;
    series = r * series + 1.0 / 120.0;
    series = r * series + 1.0 / 24.0;
    series = r * series + 1.0 / 6.0;
    series = r * series + 0.5;
    series = r * series + 1.0;
    series = r * series + 1.0;
    // Shifted into the exponent's place, the low bits are a power of two.
    return series * bits_of<double>((bits_of<std::uint64_t>(whole) + 1023u) << 52);
}

}  // namespace detail

// values[i] = values[i] ** exponent as float32, for values >= 0 and an exponent in [0, 1];
// 0 ** 0 = 1. Other than for the exponents 0, 1/2 and 1, 0 becomes a tiny positive number.
TENSOR_OPTIX_CLONES inline void apply_power(const double* values, std::size_t count,
                                            double exponent, float* out) noexcept {
    if (exponent == 0.0) {
        for (std::size_t i = 0; i < count; ++i) out[i] = 1.0f;
    } else if (exponent == 0.5) {
        for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<float>(std::sqrt(values[i]));
    } else if (exponent == 1.0) {
        for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<float>(values[i]);
    } else {
        for (std::size_t i = 0; i < count; ++i) {
            // The smallest normal number stands for 0, whose logarithm there is none of.
            const double x =
                values[i] > 2.2250738585072014e-308 ? values[i] : 2.2250738585072014e-308;
            out[i] = static_cast<float>(detail::exp2_of(exponent * detail::log2_of(x)));
        }
    }
}

}  // namespace tensor_optix
