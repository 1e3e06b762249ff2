// Running moments: in comes a batch [B, D], out go population mean and variance per column
// (float64) and, if asked for, the batch normalised with them.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "multiversioning.hpp"

namespace tensor_optix {

struct Moments {
    double* mean;
    double* var;
    double* count;
};

namespace detail {

// Rows that are merged at once: two passes over them stay in the cache.
constexpr std::size_t kChunk = 256;
// Partial sums per column. Fixed, so that every backend adds in the same order.
constexpr std::size_t kPartial = 4;
// Columns of the table of means and scales.
constexpr std::size_t kTable = 512;

// Whether all `size` floats are finite: their exponent bits are not all ones.
TENSOR_OPTIX_INLINE bool all_finite(const float* x, std::size_t size) {
    constexpr std::uint32_t exponent = 0x7f800000u;
    std::uint32_t found = 0;
    for (std::size_t i = 0; i < size; ++i) {
        std::uint32_t bits;
        std::memcpy(&bits, x + i, sizeof bits);
        found |= static_cast<std::uint32_t>((bits & exponent) == exponent);
    }
    return found == 0;
}

// Offsets of the rows to count, in `offsets`; returns how many.
TENSOR_OPTIX_INLINE std::size_t finite_rows(const float* batch, std::size_t rows, std::size_t dims,
                                            std::size_t* offsets) {
    const bool clean = all_finite(batch, rows * dims);
    std::size_t count = 0;
    for (std::size_t r = 0; r < rows; ++r) {
        if (clean || all_finite(batch + r * dims, dims)) offsets[count++] = r * dims;
    }
    return count;
}

// Chan, Golub, LeVeque 1983, eq. 2.1: merge n rows (mean, sum of squared deviations) into the
// state.
TENSOR_OPTIX_INLINE void merge(double& mean, double& var, double count, double n, double batch_mean,
                               double batch_m2) {
    const double total = count + n;
    const double delta = batch_mean - mean;
    mean = mean + delta * (n / total);
    var = (var * count + batch_m2 + delta * delta * (count * (n / total))) / total;
}

// Sums `term(x, column)` over the counted rows, row k into partial sum k % kPartial.
template <std::size_t Width, typename Term>
TENSOR_OPTIX_INLINE void sum_columns(const float* batch, const std::size_t* offsets,
                                     std::size_t count, Term term, double (&sums)[Width]) {
    double partial[kPartial][Width] = {};
    std::size_t k = 0;
    for (; k + kPartial <= count; k += kPartial) {
        for (std::size_t p = 0; p < kPartial; ++p) {
            const float* row = batch + offsets[k + p];
            for (std::size_t i = 0; i < Width; ++i) partial[p][i] += term(double(row[i]), i);
        }
    }
    for (std::size_t p = 0; k + p < count; ++p) {
        const float* row = batch + offsets[k + p];
        for (std::size_t i = 0; i < Width; ++i) partial[p][i] += term(double(row[i]), i);
    }
    for (std::size_t i = 0; i < Width; ++i) {
        sums[i] = (partial[0][i] + partial[1][i]) + (partial[2][i] + partial[3][i]);
    }
}

// `Width` columns of a chunk, two passes: the deviations are taken from the chunk's own mean, so
// that a large common offset costs no digits.
template <std::size_t Width>
TENSOR_OPTIX_INLINE void merge_columns(const float* batch, const std::size_t* offsets,
                                       std::size_t count, const Moments& state,
                                       std::size_t column) {
    double mean[Width];
    double m2[Width];
    const auto value = [](double x, std::size_t) { return x; };
    sum_columns<Width>(batch + column, offsets, count, value, mean);
    for (std::size_t i = 0; i < Width; ++i) mean[i] /= double(count);
    const auto square = [&mean](double x, std::size_t i) { return (x - mean[i]) * (x - mean[i]); };
    sum_columns<Width>(batch + column, offsets, count, square, m2);
    for (std::size_t i = 0; i < Width; ++i) {
        merge(state.mean[column + i], state.var[column + i], *state.count, double(count), mean[i],
              m2[i]);
    }
}

// Means and scales, repeated so often that a tile of the flat batch lines up with them.
struct Table {
    double mean[kTable];
    double scale[kTable];
};

TENSOR_OPTIX_INLINE void fill_table(Table& table, const double* mean, const double* var,
                                    std::size_t dims, std::size_t size, double epsilon) {
    for (std::size_t i = 0; i < dims; ++i) {
        table.mean[i] = mean[i];
        table.scale[i] = 1.0 / std::sqrt(var[i] + epsilon);
    }
    for (std::size_t i = dims; i < size; ++i) {
        table.mean[i] = table.mean[i - dims];
        table.scale[i] = table.scale[i - dims];
    }
}

// Elementwise, so that `out` may be the batch itself. NaN compares false and stays.
TENSOR_OPTIX_INLINE void normalize_tile(const float* x, const Table& table, std::size_t size,
                                        double limit, float* out) {
    for (std::size_t i = 0; i < size; ++i) {
        double y = (x[i] - table.mean[i]) * table.scale[i];
        y = y > limit ? limit : y;
        y = y < -limit ? -limit : y;
        out[i] = static_cast<float>(y);
    }
}

}  // namespace detail

// Merge the finite rows of `batch` into the state.
TENSOR_OPTIX_CLONES inline void update_moments(const float* batch, std::size_t rows,
                                               std::size_t dims, const Moments& state) noexcept {
    std::size_t offsets[detail::kChunk];
    for (std::size_t first = 0; first < rows; first += detail::kChunk) {
        const float* chunk = batch + first * dims;
        const std::size_t size = rows - first < detail::kChunk ? rows - first : detail::kChunk;
        const std::size_t count = detail::finite_rows(chunk, size, dims, offsets);
        if (count == 0) continue;
        std::size_t d = 0;
        for (; d + 16 <= dims; d += 16) detail::merge_columns<16>(chunk, offsets, count, state, d);
        for (; d + 4 <= dims; d += 4) detail::merge_columns<4>(chunk, offsets, count, state, d);
        for (; d < dims; ++d) detail::merge_columns<1>(chunk, offsets, count, state, d);
        *state.count += double(count);
    }
}

// out = clip((batch - mean) / sqrt(var + epsilon), -clip, clip); clip <= 0 does not clip.
TENSOR_OPTIX_CLONES inline void normalize(const float* batch, std::size_t rows, std::size_t dims,
                                          const double* mean, const double* var, double clip,
                                          double epsilon, float* out) noexcept {
    const double limit = clip > 0 ? clip : std::numeric_limits<double>::infinity();
    detail::Table table;
    if (dims > detail::kTable) {
        for (std::size_t d = 0; d < dims; d += detail::kTable) {
            const std::size_t width = dims - d < detail::kTable ? dims - d : detail::kTable;
            detail::fill_table(table, mean + d, var + d, width, width, epsilon);
            for (std::size_t r = 0; r < rows; ++r) {
                const std::size_t at = r * dims + d;
                detail::normalize_tile(batch + at, table, width, limit, out + at);
            }
        }
        return;
    }
    const std::size_t total = rows * dims;
    if (total == 0) return;
    std::size_t tile = detail::kTable / dims * dims;
    tile = total < tile ? total : tile;
    detail::fill_table(table, mean, var, dims, tile, epsilon);
    for (std::size_t at = 0; at < total; at += tile) {
        const std::size_t size = total - at < tile ? total - at : tile;
        detail::normalize_tile(batch + at, table, size, limit, out + at);
    }
}

}  // namespace tensor_optix
