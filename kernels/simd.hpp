// Vectors of the instruction set that a translation unit is compiled for (engine.cpp is compiled
// once for each), and the functions of numbers that compilers do not vectorise: e^x, tanh.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "multiversioning.hpp"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace tensor_optix {
namespace TENSOR_OPTIX_ISA {

#if defined(__AVX512F__)
constexpr std::size_t kLanes = 16;
#elif defined(__AVX2__)
constexpr std::size_t kLanes = 8;
#else
constexpr std::size_t kLanes = 4;
#endif

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));
typedef std::int32_t Integers __attribute__((vector_size(kLanes * sizeof(std::int32_t))));

TENSOR_OPTIX_INLINE Vector load(const float* from) {
    Vector vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
}

TENSOR_OPTIX_INLINE void store(float* to, Vector vector) {
    std::memcpy(to, &vector, sizeof vector);
}

#if defined(__AVX512F__)
TENSOR_OPTIX_INLINE __mmask16 first_lanes(std::size_t count) {
    return static_cast<__mmask16>((1u << count) - 1u);
}
#elif defined(__AVX2__)
TENSOR_OPTIX_INLINE __m256i first_lanes(std::size_t count) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lanes);
}
#endif

// The first `count` lanes, at most all; the others are 0. No memory behind them is touched.
TENSOR_OPTIX_INLINE Vector load_part(const float* from, std::size_t count) {
#if defined(__AVX512F__)
    return _mm512_maskz_loadu_ps(first_lanes(count), from);
#elif defined(__AVX2__)
    return _mm256_maskload_ps(from, first_lanes(count));
#else
    Vector vector{};
    std::memcpy(&vector, from, count * sizeof(float));
    return vector;
#endif
}

TENSOR_OPTIX_INLINE void store_part(float* to, Vector vector, std::size_t count) {
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(to, first_lanes(count), vector);
#elif defined(__AVX2__)
    _mm256_maskstore_ps(to, first_lanes(count), vector);
#else
    std::memcpy(to, &vector, count * sizeof(float));
#endif
}

TENSOR_OPTIX_INLINE Vector all(float number) {
    // Not a sum: 0 + -0 is 0, so that a compiler would have to add.
    return number - Vector{};
}

// Halves are added until one number is left.
TENSOR_OPTIX_INLINE float sum(Vector vector) {
    float parts[kLanes];
    store(parts, vector);
#pragma GCC unroll 4
    for (std::size_t half = kLanes / 2; half > 0; half /= 2)
        for (std::size_t lane = 0; lane < half; ++lane) parts[lane] += parts[lane + half];
    return parts[0];
}

// NaN stays NaN.
TENSOR_OPTIX_INLINE Vector limited(Vector x, float low, float high) {
    x = x < all(low) ? all(low) : x;
    return x > all(high) ? all(high) : x;
}

#if defined(__AVX512F__) || defined(__AVX2__)
// 1 / x, within 3 units in the last place.
TENSOR_OPTIX_INLINE Vector inverse_of(Vector x) {
#if defined(__AVX512F__)
    const Vector inverse = _mm512_maskz_rcp14_ps(0xffff, x);
#else
    const Vector inverse = _mm256_rcp_ps(x);
#endif
    return inverse + inverse * (1.0f - x * inverse);
}
#endif

// a / b within 1 unit in the last place, for |b| of 1e-30 to 1e30.
TENSOR_OPTIX_INLINE Vector quotient(Vector a, Vector b) {
#if defined(__AVX512F__) || defined(__AVX2__)
    const Vector inverse = inverse_of(b), about = a * inverse;
    return about + inverse * (a - b * about);
#else
    return a / b;
#endif
}

// The same within 4 units.
TENSOR_OPTIX_INLINE Vector quick_quotient(Vector a, Vector b) {
#if defined(__AVX512F__) || defined(__AVX2__)
    return a * inverse_of(b);
#else
    return a / b;
#endif
}

// Within 6 units in the last place, for x >= 0; with AVX 0 below 1e-36, and NaN of infinity.
TENSOR_OPTIX_INLINE Vector square_root(Vector x) {
#if defined(__AVX512F__)
    Vector inverse = _mm512_maskz_rsqrt14_ps(0xffff, x);
#elif defined(__AVX2__)
    Vector inverse = _mm256_rsqrt_ps(x);
#else
    Vector roots;
    for (std::size_t lane = 0; lane < kLanes; ++lane) roots[lane] = __builtin_sqrtf(x[lane]);
    return roots;
#endif
#if defined(__AVX512F__) || defined(__AVX2__)
    inverse += 0.5f * inverse * (1.0f - x * inverse * inverse);
    return x > all(1.0e-36f) ? x * inverse : (x == x ? Vector{} : x);
#endif
}

// e^x, within 2 units in the last place where that is a normal number; 0 below, and no more than
// e^88.37 above. 2^n is made of its exponent; e^r, for what is left, is a polynomial that has the
// least relative error in |r| <= ln(2) / 2, 3e-9.
TENSOR_OPTIX_INLINE Vector exponential(Vector x) {
    constexpr float kInverseLn2 = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
    constexpr float kToWhole = 12582912.0f;  // 1.5 * 2^23: adding it rounds
    const Vector bounded = limited(x, -87.3f, 88.37f);
    const Vector whole = (bounded * kInverseLn2 + kToWhole) - kToWhole;
    const Vector rest = (bounded - whole * kLn2High) - whole * kLn2Low;
    Vector sum = rest * 1.3814577453e-3f + 8.3687044222e-3f;
    sum = sum * rest + 4.1668387447e-2f;
    sum = sum * rest + 1.6666520735e-1f;
    sum = sum * rest + 4.9999993453e-1f;
    sum = (sum * rest) * rest + rest + 1.0f;
    const Integers power = (__builtin_convertvector(whole, Integers) + 127) << 23;
    Vector scale;
    std::memcpy(&scale, &power, sizeof scale);
    const Vector result = sum * scale;
    return x < all(-87.3f) ? Vector{} : result;
}

// log(x) of normal x > 0, within 2 units in the last place, or 1e-7 where it is small. Of x = 2^n *
// m, m in [sqrt(1/2), sqrt(2)), log(m) = 2 artanh(s) with s = (m - 1) / (m + 1).
TENSOR_OPTIX_INLINE Vector logarithm(Vector x) {
    constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
    Integers bits;
    std::memcpy(&bits, &x, sizeof bits);
    // The exponent counts from sqrt(1/2) on, whose bits are these.
    const Integers whole = (bits - 0x3f3504f3) >> 23;
    const Integers rest = bits - (whole << 23);
    Vector m;
    std::memcpy(&m, &rest, sizeof m);
    const Vector n = __builtin_convertvector(whole, Vector);
    const Vector f = m - 1.0f;
    const Vector s = quotient(f, m + 1.0f), square = s * s;
    Vector sum = square * 0.23581414f + 0.2853735f;
    sum = sum * square + 0.40000334f;
    sum = sum * square + 0.66666666f;
    // f - s * (f - s^2 * sum) is 2s + s^3 * sum without the rounding of 2s.
    const Vector of_m = f - s * (f - square * sum);
    return n * kLn2High + (of_m + n * kLn2Low);
}

// tanh, within 8 units in the last place (relatively 5e-7), whichever products and sums are fused,
// never beyond 1: x * P(x^2) / Q(x^2), of least relative error (2e-8) up to 9.02, beyond which tanh
// is 1 in single precision.
TENSOR_OPTIX_INLINE Vector hyperbolic_tangent(Vector x) {
    const Vector bounded = limited(x, -9.02f, 9.02f);
    const Vector square = bounded * bounded;
    Vector above = square * 1.3319164964e-8f + 2.0583557574e-5f;
    above = above * square + 3.4940395767e-3f;
    above = above * square + 1.3379722283e-1f;
    above = above * square + 9.9999997902e-1f;
    Vector below = square * 7.7620602563e-7f + 3.2831007810e-4f;
    below = below * square + 2.5871092660e-2f;
    below = below * square + 4.6713037527e-1f;
    below = below * square + 1.0f;
    return limited(quotient(bounded * above, below), -1.0f, 1.0f);
}

}  // namespace TENSOR_OPTIX_ISA
}  // namespace tensor_optix
