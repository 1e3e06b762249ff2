// Priorities of prioritized replay (Schaul et al. 2016, arXiv:1511.05952): raw
// ones |td_error| + eps come in, leaves of a sum tree, raw ** alpha, go out. A
// row is in while its leaf is positive.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "power.hpp"
#include "sum_tree.hpp"

namespace tensor_optix {

struct Priorities {
    SumTree tree;
    float* raw;
    double alpha;
};

// Rows that come in, and rows that leave after them; one may be both.
struct ReplacedRows {
    const std::int64_t* in;
    std::size_t inserted;
    const std::int64_t* out;
    std::size_t removed;
};

namespace detail {

// raw ** alpha, but never 0: a row that is in can be drawn.
TENSOR_OPTIX_INLINE void leaves_of(const double* raw, std::size_t count, double alpha,
                                   float* leaves) {
    apply_power(raw, count, alpha, leaves);
    constexpr float smallest = std::numeric_limits<float>::min();
    for (std::size_t i = 0; i < count; ++i) leaves[i] = std::max(leaves[i], smallest);
}

constexpr std::size_t kRowsAtOnce = 32;  // while their powers are computed, the next are fetched

TENSOR_OPTIX_INLINE void prefetch_rows(const Priorities& p, const std::int64_t* indices,
                                       std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t row = static_cast<std::size_t>(indices[i]);
        TENSOR_OPTIX_PREFETCH(p.tree.leaves + row);
        TENSOR_OPTIX_PREFETCH(p.raw + row);
        const double* node = p.tree.node(0, row / (kTreeWidth * kTreeWidth));
        TENSOR_OPTIX_PREFETCH(node);
        TENSOR_OPTIX_PREFETCH(node + 8);
        TENSOR_OPTIX_PREFETCH(node + 16);
        TENSOR_OPTIX_PREFETCH(node + 24);
    }
}

// The raw priorities of at most kRowsAtOnce rows are written, their leaves
// told. Returns how many td_errors were not finite.
TENSOR_OPTIX_INLINE std::size_t update_rows(const Priorities& p, const std::int64_t* indices,
                                            const float* td_errors, std::size_t count, float eps,
                                            float* running_max, float* leaves) {
    double raw[kRowsAtOnce];
    for (std::size_t i = 0; i < count; ++i) {
        const float sum = std::abs(td_errors[i]) + eps;
        raw[i] = sum <= std::numeric_limits<float>::max() ? sum : 1.0;
    }
    leaves_of(raw, count, p.alpha, leaves);
    std::size_t refused = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const float sum = std::abs(td_errors[i]) + eps;
        const bool finite = sum <= std::numeric_limits<float>::max();
        refused += !finite;
        if (!finite || !(p.tree.leaves[indices[i]] > 0.0f)) {
            leaves[i] = -1.0f;  // the tree leaves such a row alone
            continue;
        }
        p.raw[indices[i]] = sum;
        *running_max = std::max(*running_max, sum);
    }
    return refused;
}

// One block of update_priorities.
TENSOR_OPTIX_INLINE std::size_t update_block(const Priorities& p, const std::int64_t* indices,
                                             const float* td_errors, std::size_t count, float eps,
                                             float* running_max) {
    float leaves[kTreeBlock];
    prefetch_rows(p, indices, std::min(count, kRowsAtOnce));
    std::size_t refused = 0;
    for (std::size_t first = 0; first < count; first += kRowsAtOnce) {
        const std::size_t size = std::min(count - first, kRowsAtOnce);
        const std::size_t next = first + size;
        prefetch_rows(p, indices + next, std::min(count - next, kRowsAtOnce));
        refused += update_rows(p, indices + first, td_errors + first, size, eps, running_max,
                               leaves + first);
    }
    write_block<false>(p.tree, indices, count, leaves);
    return refused;
}

}  // namespace detail

// Rows come in with the largest raw priority seen, then others leave. They
// often lie side by side, so that what is above them is the same. Returns the
// change in the number of rows that are in.
TENSOR_OPTIX_CLONES inline std::int64_t replace_priorities(Priorities p, ReplacedRows rows,
                                                           float running_max) noexcept {
    const double raw = running_max;
    const float out = 0.0f;
    float in;
    detail::leaves_of(&raw, 1, p.alpha, &in);
    for (std::size_t k = 0; k < rows.inserted; ++k) p.raw[rows.in[k]] = running_max;
    std::int64_t change = 0;
    for (std::size_t i = 0, r = 0; i < rows.inserted || r < rows.removed;) {
        const std::size_t come = std::min(rows.inserted - i, detail::kTreeBlock);
        const std::size_t leave = std::min(rows.removed - r, detail::kTreeBlock - come);
        detail::TouchedLines touched;
        change += detail::write_leaves<true>(p.tree, rows.in + i, come, &in, touched);
        change += detail::write_leaves<true>(p.tree, rows.out + r, leave, &out, touched);
        detail::climb(p.tree, touched.lines, touched.length);
        i += come;
        r += leave;
    }
    return change;
}

// raw = |td_error| + eps for rows that are in. Returns how many td_errors were
// not finite; their rows keep what they had.
TENSOR_OPTIX_CLONES inline std::size_t update_priorities(Priorities p, const std::int64_t* indices,
                                                         const float* td_errors, std::size_t count,
                                                         float eps, float* running_max) noexcept {
    std::size_t refused = 0;
    for (std::size_t i = 0; i < count; i += detail::kTreeBlock) {
        refused += detail::update_block(p, indices + i, td_errors + i,
                                        std::min(count - i, detail::kTreeBlock), eps, running_max);
    }
    return refused;
}

// Recompute the leaves of the rows that are in, and all sums.
TENSOR_OPTIX_CLONES inline void rescale_priorities(Priorities p) noexcept {
    double raw[detail::kTreeBlock];
    float leaves[detail::kTreeBlock];
    for (std::size_t first = 0; first < p.tree.size; first += detail::kTreeBlock) {
        const std::size_t count = std::min(p.tree.size - first, detail::kTreeBlock);
        for (std::size_t i = 0; i < count; ++i) raw[i] = p.raw[first + i];
        detail::leaves_of(raw, count, p.alpha, leaves);
        for (std::size_t i = 0; i < count; ++i) {
            float& leaf = p.tree.leaves[first + i];
            leaf = leaf > 0.0f ? leaves[i] : leaf;
        }
    }
    rebuild(p.tree);
}

}  // namespace tensor_optix
