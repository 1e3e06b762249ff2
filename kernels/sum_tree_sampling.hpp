// Drawing from a sum tree: stratified batches of leaves, and their importance weights.
#pragma once

#include <algorithm>

#include "minibatches.hpp"
#include "power.hpp"
#include "sum_tree.hpp"

namespace tensor_optix {

// What to draw: `batches` times `count` leaves, one from each of `count` equal parts of the total.
struct TreeDraw {
    std::size_t count, batches;
    double beta;
    std::uint64_t* state;
    std::int64_t* indices;
    float* weights;
};

namespace detail {

// Rounding on the way down can reach a child's total: then the largest number below it.
TENSOR_OPTIX_INLINE double below(double target, double total) {
    return target < total ? target : bits_of<double>(bits_of<std::uint64_t>(total) - 1);
}

// How many of the first three of four ascending numbers are not above the target.
TENSOR_OPTIX_INLINE std::size_t passed(double a, double b, double c, double target) {
    return std::size_t(a <= target) + std::size_t(b <= target) + std::size_t(c <= target);
}

// The first of 16 running sums above `target`, which becomes what is left of it within that child.
// A child without weight adds nothing to the running sum, so it is never the first above anything.
TENSOR_OPTIX_INLINE std::size_t pick_child(const double* sums, double& target) {
    const double kept = below(target, sums[kTreeWidth - 1]);
    const std::size_t group = passed(sums[3], sums[7], sums[11], kept);
    const double* few = sums + 4 * group;
    const std::size_t child = 4 * group + passed(few[0], few[1], few[2], kept);
    const double before = sums[child - (child > 0)];
    target = kept - (child > 0 ? before : 0.0);
    return child;
}

// The same for the 16 leaves of a line; only the running sums that are looked at are formed.
TENSOR_OPTIX_INLINE std::size_t pick_leaf(const float* leaves, double target) {
    double ends[4];
    const double kept = below(target, group_ends(leaves, ends));
    const std::size_t group = passed(ends[0], ends[1], ends[2], kept);
    const double end = ends[group - (group > 0)], before = group > 0 ? end : 0.0;
    const float* few = leaves + 4 * group;
    return 4 * group + passed(before + group_sum(few, 1), before + group_sum(few, 2),
                              before + group_sum(few, 3), kept);
}

TENSOR_OPTIX_INLINE void prefetch_child(const SumTree& tree, std::size_t level, std::size_t child) {
    if (level == 0) {
        TENSOR_OPTIX_PREFETCH(tree.leaves + child * kTreeWidth);
    } else {
        const double* sums = tree.node(level - 1, child) + kTreeWidth;
        TENSOR_OPTIX_PREFETCH(sums);
        TENSOR_OPTIX_PREFETCH(sums + kTreeWidth / 2);
    }
}

// Leaves for `count` targets in [0, total), level by level, so that memory is asked for early.
TENSOR_OPTIX_INLINE void descend(const SumTree& tree, double* targets, std::size_t count,
                                 std::int64_t* indices, float* values) {
    for (std::size_t i = 0; i < count; ++i) indices[i] = 0;
    for (std::size_t level = tree.depth; level-- > 0;) {
        const double* sums_of_level = tree.node(level, 0) + kTreeWidth;
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t at = static_cast<std::size_t>(indices[i]);
            const double* sums = sums_of_level + at * kNodeSize;
            const std::size_t child = at * kTreeWidth + pick_child(sums, targets[i]);
            prefetch_child(tree, level, child);
            indices[i] = static_cast<std::int64_t>(child);
        }
    }
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t line = static_cast<std::size_t>(indices[i]);
        float tail[kTreeWidth];
        const float* leaves = line_at(tree, line, tail);
        const std::size_t leaf = pick_leaf(leaves, targets[i]);
        indices[i] = static_cast<std::int64_t>(line * kTreeWidth + leaf);
        values[i] = leaves[leaf];
    }
}

// One uniform number in each part of [0, total), part after part; returns the next part.
TENSOR_OPTIX_INLINE std::size_t draw_targets(const TreeDraw& draw, double total, std::size_t part,
                                             double* targets, std::size_t count) {
    const double width = total / double(draw.count);
    for (std::size_t i = 0; i < count; ++i) {
        const double unit = double(splitmix64(*draw.state) >> 11) * 0x1p-53;
        targets[i] = (double(part) + unit) * width;
        part = part + 1 == draw.count ? 0 : part + 1;
    }
    return part;
}

// Schaul et al. 2016, section 3.4: (N p / total) ** -beta over its largest value in the batch,
// which is (smallest p / p) ** beta.
TENSOR_OPTIX_INLINE void weigh(float* values, std::size_t count, double beta) {
    float smallest = values[0];
    for (std::size_t i = 1; i < count; ++i) smallest = std::min(smallest, values[i]);
    double ratios[kTreeBlock];
    for (std::size_t first = 0; first < count; first += kTreeBlock) {
        const std::size_t size = std::min(count - first, kTreeBlock);
        for (std::size_t i = 0; i < size; ++i) {
            ratios[i] = double(smallest) / double(values[first + i]);
        }
        apply_power(ratios, size, beta, values + first);
    }
}

}  // namespace detail

// Draw leaves in proportion to their values, and their importance weights. The total is positive.
TENSOR_OPTIX_CLONES inline void sample_leaves(SumTree tree, TreeDraw draw) noexcept {
    double targets[detail::kTreeBlock];
    const std::size_t rows = draw.count * draw.batches;
    std::size_t part = 0;
    for (std::size_t i = 0; i < rows; i += detail::kTreeBlock) {
        const std::size_t size = std::min(rows - i, detail::kTreeBlock);
        part = detail::draw_targets(draw, tree.total(), part, targets, size);
        detail::descend(tree, targets, size, draw.indices + i, draw.weights + i);
    }
    for (std::size_t i = 0; i < rows; i += draw.count) {
        detail::weigh(draw.weights + i, draw.count, draw.beta);
    }
}

}  // namespace tensor_optix
