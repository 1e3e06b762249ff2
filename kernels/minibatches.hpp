// Minibatches: a permutation in place, and rows collected through indices.
#pragma once

#include <cstring>
#include <utility>

#include "multiversioning.hpp"

namespace tensor_optix {

// One array to collect rows of: `source` has `source_rows` rows of `row_bytes` bytes.
struct GatherField {
    const std::uint8_t* source;
    std::uint8_t* output;
    std::size_t row_bytes;
    std::size_t source_rows;
};

namespace detail {

// splitmix64 (Steele, Lea, Flood 2014): one 64-bit word per call, any state is a good state.
TENSOR_OPTIX_INLINE std::uint64_t splitmix64(std::uint64_t& state) {
    state += 0x9e3779b97f4a7c15u;
    std::uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

// Unbiased draw from [0, bound) (Lemire 2019, arXiv:1805.10941), from the upper half of a word.
TENSOR_OPTIX_INLINE std::uint32_t bounded(std::uint64_t& state, std::uint32_t bound) {
    std::uint64_t product = (splitmix64(state) >> 32) * bound;
    if (static_cast<std::uint32_t>(product) < bound) {
        const std::uint32_t threshold = (0u - bound) % bound;
        while (static_cast<std::uint32_t>(product) < threshold) {
            product = (splitmix64(state) >> 32) * bound;
        }
    }
    return static_cast<std::uint32_t>(product >> 32);
}

// Rows of a size known here compile to one load and one store; memcpy asks for no alignment.
template <std::size_t Bytes>
TENSOR_OPTIX_INLINE void gather_rows(const GatherField& field, const std::int32_t* indices,
                                     std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        std::memcpy(field.output + i * Bytes, field.source + std::size_t(indices[i]) * Bytes,
                    Bytes);
    }
}

inline void gather_any(const GatherField& field, const std::int32_t* indices, std::size_t count) {
    constexpr std::size_t ahead = 8;  // rows: about a memory latency of copying
    const std::size_t bytes = field.row_bytes;
    for (std::size_t i = 0; i < count; ++i) {
        if (i + ahead < count) {
            TENSOR_OPTIX_PREFETCH(field.source + std::size_t(indices[i + ahead]) * bytes);
        }
        std::memcpy(field.output + i * bytes, field.source + std::size_t(indices[i]) * bytes,
                    bytes);
    }
}

}  // namespace detail

// Fisher-Yates from the top (Knuth, TAOCP 2, algorithm P), in place; advances `state`.
inline void shuffle(std::int32_t* indices, std::size_t count, std::uint64_t* state) noexcept {
    std::uint64_t s = *state;
    for (std::size_t i = count; i > 1; --i) {
        std::swap(indices[i - 1], indices[detail::bounded(s, static_cast<std::uint32_t>(i))]);
    }
    *state = s;
}

// Whether all indices are in [0, rows).
TENSOR_OPTIX_CLONES inline bool within_bounds(const std::int32_t* indices, std::size_t count,
                                              std::size_t rows) noexcept {
    // Seen as unsigned, a negative index is beyond any bound.
    const std::uint32_t bound = rows > 0x7fffffffu ? 0x80000000u : static_cast<std::uint32_t>(rows);
    std::uint32_t outside = 0;
    for (std::size_t i = 0; i < count; ++i) {
        outside |= static_cast<std::uint32_t>(static_cast<std::uint32_t>(indices[i]) >= bound);
    }
    return outside == 0;
}

// output[i] = source[indices[i]], row by row. The indices are within bounds.
inline void gather(const GatherField& field, const std::int32_t* indices,
                   std::size_t count) noexcept {
    switch (field.row_bytes) {
        case 0:
            return;
        case 1:
            return detail::gather_rows<1>(field, indices, count);
        case 2:
            return detail::gather_rows<2>(field, indices, count);
        case 4:
            return detail::gather_rows<4>(field, indices, count);
        case 8:
            return detail::gather_rows<8>(field, indices, count);
        case 16:
            return detail::gather_rows<16>(field, indices, count);
        default:
            return detail::gather_any(field, indices, count);
    }
}

}  // namespace tensor_optix
