// Products of matrices of a layer's size. The right one is packed into panels of a few vectors'
// width, and blocks of the result stay in registers while they are summed.
#pragma once

#include <algorithm>

#include "simd.hpp"

namespace tensor_optix {
namespace TENSOR_OPTIX_ISA {

// A matrix whose element (i, k) is data[i * row + k * column]; one of the steps is 1.
struct Matrix {
    const float* data;
    std::size_t row;
    std::size_t column;
};

inline Matrix by_rows(const float* data, std::size_t width) {
    return {data, width, 1};
}

inline Matrix transposed(const float* data, std::size_t width) {
    return {data, 1, width};
}

#if defined(__AVX512F__)
constexpr std::size_t kBlockRows = 8, kBlockVectors = 2;
#elif defined(__AVX2__)
constexpr std::size_t kBlockRows = 6, kBlockVectors = 2;
#else
constexpr std::size_t kBlockRows = 4, kBlockVectors = 2;
#endif
constexpr std::size_t kPanel = kBlockVectors * kLanes;
constexpr std::size_t kDepth = 512;  // a panel of so many rows stays in the cache nearest by

// How many floats `product` needs to pack into.
constexpr std::size_t kPacked = (kDepth + 1) * kPanel;
// Rows of the right matrix are read where they are if all of it stays in the cache nearest by.
constexpr std::size_t kUnpacked = 32 * 1024 / sizeof(float);
// With so few columns each element is a sum along the rows of both matrices.
constexpr std::size_t kNarrow = 4;

namespace details {

// Vectors as the rows of a square become its columns: each pass interleaves the halves.
TENSOR_OPTIX_INLINE void transpose(Vector (&square)[kLanes]) {
    Integers low, high;
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
        low[lane] = static_cast<std::int32_t>(lane / 2 + (lane % 2) * kLanes);
        high[lane] = low[lane] + static_cast<std::int32_t>(kLanes / 2);
    }
#pragma GCC unroll 4
    for (std::size_t pass = 1; pass < kLanes; pass *= 2) {
        Vector next[kLanes];
#pragma GCC unroll 8
        for (std::size_t i = 0; i < kLanes / 2; ++i) {
            const Vector first = square[i], second = square[i + kLanes / 2];
            next[2 * i] = __builtin_shuffle(first, second, low);
            next[2 * i + 1] = __builtin_shuffle(first, second, high);
        }
#pragma GCC unroll 16
        for (std::size_t i = 0; i < kLanes; ++i) square[i] = next[i];
    }
}

// Packs `depth` rows of up to kPanel columns; what is missing is 0.
inline void pack(const Matrix& right, std::size_t depth, std::size_t width, float* panel) {
    if (right.column == 1) {
        for (std::size_t k = 0; k < depth; ++k, panel += kPanel) {
            const float* from = right.data + k * right.row;
#pragma GCC unroll 2
            for (std::size_t v = 0; v < kBlockVectors; ++v) {
                const std::size_t first = v * kLanes;
                const std::size_t left = width > first ? std::min(width - first, kLanes) : 0;
                store(panel + first,
                      left == kLanes ? load(from + first) : load_part(from + first, left));
            }
        }
        return;
    }
    for (std::size_t first = 0; first < kPanel; first += kLanes) {
        const std::size_t columns = width > first ? std::min(width - first, kLanes) : 0;
        for (std::size_t k = 0; k < depth; k += kLanes) {
            const std::size_t rows = std::min(depth - k, kLanes);
            Vector square[kLanes];
#pragma GCC unroll 16
            for (std::size_t j = 0; j < kLanes; ++j) {
                const float* from = right.data + (first + j) * right.column + k;
                if (j >= columns) {
                    square[j] = Vector{};
                } else {
                    square[j] = rows == kLanes ? load(from) : load_part(from, rows);
                }
            }
            transpose(square);
            float* to = panel + k * kPanel + first;
            for (std::size_t i = 0; i < rows; ++i) store(to + i * kPanel, square[i]);
        }
    }
}

// Up to kPanel columns of the right matrix, row by row.
struct Panel {
    const float* data;
    std::size_t step;
};

// Adds to `Rows` rows of sums the products of `depth` columns with a panel's rows.
template <std::size_t Rows, std::size_t Vectors>
TENSOR_OPTIX_INLINE void block(const Matrix& left, Panel panel, std::size_t depth,
                               Vector (&sums)[Rows][Vectors]) {
    const float* from = left.data;
    const float* with = panel.data;
    for (std::size_t k = 0; k < depth; ++k, from += left.column, with += panel.step) {
        Vector right[Vectors];
#pragma GCC unroll 4
        for (std::size_t v = 0; v < Vectors; ++v) right[v] = load(with + v * kLanes);
#pragma GCC unroll 16
        for (std::size_t r = 0; r < Rows; ++r) {
            const Vector each = all(from[r * left.row]);
#pragma GCC unroll 4
            for (std::size_t v = 0; v < Vectors; ++v) sums[r][v] += each * right[v];
        }
    }
}

struct Target {
    float* data;  // the first element of the block
    std::size_t row;
    std::size_t width;  // up to kPanel
    const float* bias;  // a panel's row to begin with; null: go on from the target
    bool is_rectified;  // whether negative numbers become 0, once they are summed
};

template <std::size_t Rows, std::size_t Vectors>
void finish_block(const Matrix& left, Panel panel, std::size_t depth, const Target& target) {
    Vector sums[Rows][Vectors];
    const std::size_t last = target.width - (Vectors - 1) * kLanes;
#pragma GCC unroll 16
    for (std::size_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
        for (std::size_t v = 0; v < Vectors; ++v) {
            const float* from = target.data + r * target.row + v * kLanes;
            sums[r][v] = target.bias       ? load(target.bias + v * kLanes)
                         : v + 1 < Vectors ? load(from)
                                           : load_part(from, last);
        }
    }
    block<Rows, Vectors>(left, panel, depth, sums);
    if (target.is_rectified) {
#pragma GCC unroll 16
        for (std::size_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
            // Written so that NaN stays NaN.
            for (std::size_t v = 0; v < Vectors; ++v)
                sums[r][v] = sums[r][v] < Vector{} ? Vector{} : sums[r][v];
        }
    }
#pragma GCC unroll 16
    for (std::size_t r = 0; r < Rows; ++r) {
        float* to = target.data + r * target.row;
#pragma GCC unroll 4
        for (std::size_t v = 0; v + 1 < Vectors; ++v) store(to + v * kLanes, sums[r][v]);
        float* const end = to + (Vectors - 1) * kLanes;
        if (last == kLanes) {
            store(end, sums[r][Vectors - 1]);
        } else {
            store_part(end, sums[r][Vectors - 1], last);
        }
    }
}

template <std::size_t Rows>
void finish_rows(const Matrix& left, std::size_t first, Panel panel, std::size_t depth,
                 const Target& target) {
    const Matrix below = {left.data + first * left.row, left.row, left.column};
    const Target here = {target.data + first * target.row, target.row, target.width, target.bias,
                         target.is_rectified};
    if (target.width <= kLanes) {
        finish_block<Rows, 1>(below, panel, depth, here);
    } else {
        finish_block<Rows, kBlockVectors>(below, panel, depth, here);
    }
}

template <std::size_t Rows = kBlockRows - 1>
void finish_last_rows(std::size_t rows, const Matrix& left, std::size_t first, Panel panel,
                      std::size_t depth, const Target& target) {
    if constexpr (Rows > 0) {
        if (rows == Rows) return finish_rows<Rows>(left, first, panel, depth, target);
        finish_last_rows<Rows - 1>(rows, left, first, panel, depth, target);
    }
}

inline void finish(const Matrix& left, Panel panel, std::size_t rows, std::size_t depth,
                   const Target& target) {
    std::size_t i = 0;
    for (; i + kBlockRows <= rows; i += kBlockRows)
        finish_rows<kBlockRows>(left, i, panel, depth, target);
    finish_last_rows(rows - i, left, i, panel, depth, target);
}

// Sums along rows, four rows of the left matrix at a time; the columns of the right one lie side by
// side.
inline void narrow_product(const Matrix& left, const float* columns, const float* bias,
                           std::size_t rows, std::size_t count, std::size_t depth, float* result) {
    constexpr std::size_t kAtOnce = 4;
    for (std::size_t j = 0; j < count; ++j, columns += depth) {
        for (std::size_t i = 0; i < rows; i += kAtOnce) {
            const std::size_t here = std::min(rows - i, kAtOnce);
            const float* from[kAtOnce];
            // Missing rows are the last one again.
            for (std::size_t r = 0; r < kAtOnce; ++r)
                from[r] = left.data + std::min(i + r, rows - 1) * left.row;
            Vector sums[kAtOnce] = {};
            std::size_t k = 0;
            for (; k + kLanes <= depth; k += kLanes) {
                const Vector right = load(columns + k);
#pragma GCC unroll 4
                for (std::size_t r = 0; r < kAtOnce; ++r) sums[r] += load(from[r] + k) * right;
            }
            if (k < depth) {
                const Vector right = load_part(columns + k, depth - k);
                for (std::size_t r = 0; r < kAtOnce; ++r)
                    sums[r] += load_part(from[r] + k, depth - k) * right;
            }
            for (std::size_t r = 0; r < here; ++r)
                result[(i + r) * count + j] = sum(sums[r]) + (bias ? bias[j] : 0.0f);
        }
    }
}

}  // namespace details

// result[i, j] = bias[j] + sum over k of left[i, k] * right[k, j]; no bias: 0.
// `packed` has room for kPacked floats. Negative elements become 0 if it is to be rectified, which
// costs nothing here.
inline void product(const Matrix& left, const Matrix& right, const float* bias, std::size_t rows,
                    std::size_t columns, std::size_t depth, float* result, float* packed,
                    bool is_rectified = false) {
    // A single row, transposed, looks as if it lay along; its sums are to be those of any row.
    const bool lies_along = left.column == 1 && left.row >= depth && right.row == 1;
    if (columns <= kNarrow && lies_along && depth > 1 && !is_rectified)
        return details::narrow_product(left, right.data, bias, rows, columns, depth, result);
    float* const begin = packed + kDepth * kPanel;
    const bool is_near = right.column == 1 && depth * right.row <= kUnpacked;
    for (std::size_t j = 0; j < columns; j += kPanel) {
        const std::size_t width = std::min(columns - j, kPanel);
        std::fill(begin, begin + kPanel, 0.0f);
        if (bias) std::copy(bias + j, bias + j + width, begin);
        std::size_t k = 0;
        do {
            const std::size_t part = std::min(depth - k, kDepth);
            const Matrix below = {right.data + k * right.row + j * right.column, right.row,
                                  right.column};
            details::Panel panel = {packed, kPanel};
            if (is_near && width == kPanel) {
                panel = {below.data, right.row};
            } else {
                details::pack(below, part, width, packed);
            }
            const Matrix beside = {left.data + k * left.column, left.row, left.column};
            const bool is_last = k + part == depth;
            details::finish(
                beside, panel, rows, part,
                {result + j, columns, width, k ? nullptr : begin, is_rectified && is_last});
            k += part;
        } while (k < depth);
    }
}

}  // namespace TENSOR_OPTIX_ISA
}  // namespace tensor_optix
