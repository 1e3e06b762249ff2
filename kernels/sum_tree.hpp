// A wide sum tree: float32 leaves in lines of 16, over them nodes of 16 children with float64 sums.
// Sums are always recomputed from what lies below, so they depend on the leaves alone.
#pragma once

#include <algorithm>
#include <cstring>

#include "multiversioning.hpp"

namespace tensor_optix {

constexpr std::size_t kTreeWidth = 16;  // leaves of a line (64 bytes), children of a node
constexpr std::size_t kNodeSize = 2 * kTreeWidth;  // sums of the children, then their running sums

// Levels are counted from the bottom: the children of level 0 are the lines of leaves. Child i of a
// level belongs to its node i / 16; a level's nodes follow those of the level below.
struct SumTree {
    float* leaves;
    std::size_t size;
    double* nodes;
    std::size_t depth = 0;
    std::size_t first[16] = {};  // each level's first node; 16 levels hold any 64-bit size

    SumTree(float* leaves_, std::size_t size_, double* nodes_)
        : leaves(leaves_), size(size_), nodes(nodes_) {
        std::size_t children = lines(), offset = 0;
        do {
            children = (children + kTreeWidth - 1) / kTreeWidth;
            first[depth++] = offset;
            offset += children;
        } while (children > 1);
    }

    std::size_t lines() const {
        return (size + kTreeWidth - 1) / kTreeWidth;
    }
    std::size_t node_count() const {
        return first[depth - 1] + 1;
    }
    double* node(std::size_t level, std::size_t i) const {
        return nodes + (first[level] + i) * kNodeSize;
    }
    // Where the sum of a level's child i is kept.
    double* slot(std::size_t level, std::size_t i) const {
        return node(level, i / kTreeWidth) + i % kTreeWidth;
    }
    double total() const {
        return node(depth - 1, 0)[kNodeSize - 1];
    }
};

namespace detail {

constexpr std::size_t kTreeBlock = 256;  // rows at a time: their scratch stays in the first cache
constexpr std::size_t kTreeAhead = 24;   // rows: about a memory latency of writing

// The 16 leaves of a line; a short last line is completed with zeros in `tail`.
TENSOR_OPTIX_INLINE const float* line_at(const SumTree& tree, std::size_t line, float* tail) {
    const std::size_t start = line * kTreeWidth;
    if (start + kTreeWidth <= tree.size) return tree.leaves + start;
    std::memset(tail, 0, kTreeWidth * sizeof *tail);
    if (start < tree.size) {
        std::memcpy(tail, tree.leaves + start, (tree.size - start) * sizeof *tail);
    }
    return tail;
}

// The sum of the first `count` of a group of 4 values.
template <typename T>
TENSOR_OPTIX_INLINE double group_sum(const T* values, std::size_t count) {
    double sum = double(values[0]);
    for (std::size_t k = 1; k < count; ++k) sum += double(values[k]);
    return sum;
}

// Running sums of the 4 groups of 16 values; returns the last, their total.
template <typename T>
TENSOR_OPTIX_INLINE double group_ends(const T* values, double* ends) {
    double sum = 0.0;
    for (std::size_t g = 0; g < 4; ++g) ends[g] = sum += group_sum(values + 4 * g, 4);
    return sum;
}

// Running sums of 16 values; returns the last, their total. Groups are summed on their own first,
// so that no addition waits for fifteen others. They never descend, and a 0 adds nothing to them.
TENSOR_OPTIX_INLINE double running_sums(const double* values, double* sums) {
    double ends[4];
    const double total = group_ends(values, ends);
    for (std::size_t g = 0; g < 4; ++g) {
        const double before = g == 0 ? 0.0 : ends[g - 1];
        for (std::size_t k = 0; k < 4; ++k) {
            sums[4 * g + k] = before + group_sum(values + 4 * g, k + 1);
        }
    }
    return total;
}

TENSOR_OPTIX_INLINE double line_total(const SumTree& tree, std::size_t line) {
    float tail[kTreeWidth];
    double ends[4];
    return group_ends(line_at(tree, line, tail), ends);
}

// No sum is negative, so this marks one that is to be recomputed.
constexpr double kPending = -1.0;

// Put child i of a level on the list, unless it is there; returns the list's new length.
TENSOR_OPTIX_INLINE std::size_t mark(const SumTree& tree, std::size_t level, std::size_t i,
                                     std::size_t* list, std::size_t length) {
    double* slot = tree.slot(level, i);
    const bool fresh = *slot != kPending;
    *slot = kPending;
    list[length] = i;
    return length + fresh;
}

// Recompute what lies above the marked lines, each node once. Overwrites the list.
TENSOR_OPTIX_INLINE void climb(const SumTree& tree, std::size_t* list, std::size_t length) {
    if (length == 0) return;
    for (std::size_t i = 0; i < length; ++i) *tree.slot(0, list[i]) = line_total(tree, list[i]);
    for (std::size_t level = 0; level + 1 < tree.depth; ++level) {
        std::size_t touched = 0;
        for (std::size_t i = 0; i < length; ++i) {
            touched = mark(tree, level + 1, list[i] / kTreeWidth, list, touched);
        }
        length = touched;
        for (std::size_t i = 0; i < length; ++i) {
            double* node = tree.node(level, list[i]);
            *tree.slot(level + 1, list[i]) = running_sums(node, node + kTreeWidth);
        }
    }
    double* root = tree.node(tree.depth - 1, 0);
    running_sums(root, root + kTreeWidth);
}

// The lines that a block of rows touched, each once.
struct TouchedLines {
    std::size_t lines[kTreeBlock + 1];
    std::size_t length = 0;
};

// leaves[indices[i]] = values[i], or values[0] for all, in order; a negative value leaves its row
// alone. What lies above is left to `climb`. At most kTreeBlock rows between two climbs. Returns
// the change in the number of positive leaves.
template <bool Same>
TENSOR_OPTIX_INLINE std::int64_t write_leaves(const SumTree& tree, const std::int64_t* indices,
                                              std::size_t count, const float* values,
                                              TouchedLines& touched) {
    std::size_t length = touched.length;
    std::int64_t change = 0;
    for (std::size_t i = 0; i < count; ++i) {
        if (i + kTreeAhead < count) {
            const std::size_t ahead = static_cast<std::size_t>(indices[i + kTreeAhead]);
            TENSOR_OPTIX_PREFETCH(tree.leaves + ahead);
            TENSOR_OPTIX_PREFETCH(tree.slot(0, ahead / kTreeWidth));
        }
        const float value = values[Same ? 0 : i];
        if (value < 0.0f) continue;
        const std::size_t row = static_cast<std::size_t>(indices[i]);
        change += std::int64_t(value > 0.0f) - std::int64_t(tree.leaves[row] > 0.0f);
        tree.leaves[row] = value;
        length = mark(tree, 0, row / kTreeWidth, touched.lines, length);
    }
    touched.length = length;
    return change;
}

// The same, and all sums. At most kTreeBlock rows.
template <bool Same>
TENSOR_OPTIX_INLINE std::int64_t write_block(const SumTree& tree, const std::int64_t* indices,
                                             std::size_t count, const float* values) {
    TouchedLines touched;
    const std::int64_t change = write_leaves<Same>(tree, indices, count, values, touched);
    climb(tree, touched.lines, touched.length);
    return change;
}

template <bool Same>
TENSOR_OPTIX_INLINE std::int64_t write_rows(const SumTree& tree, const std::int64_t* indices,
                                            std::size_t count, const float* values) {
    std::int64_t change = 0;
    for (std::size_t i = 0; i < count; i += kTreeBlock) {
        change += write_block<Same>(tree, indices + i, std::min(count - i, kTreeBlock),
                                    values + (Same ? 0 : i));
    }
    return change;
}

}  // namespace detail

// The tree comes by value: what a kernel writes can then not be the tree's own numbers, and the
// compiler keeps them in registers.

// Compute every sum from the leaves. Returns how many leaves are positive.
TENSOR_OPTIX_CLONES inline std::int64_t rebuild(SumTree tree) noexcept {
    std::int64_t positive = 0;
    for (std::size_t i = 0; i < tree.size; ++i) positive += tree.leaves[i] > 0.0f;
    std::fill_n(tree.nodes, tree.node_count() * kNodeSize, 0.0);
    std::size_t children = tree.lines();
    for (std::size_t i = 0; i < children; ++i) *tree.slot(0, i) = detail::line_total(tree, i);
    for (std::size_t level = 0; level < tree.depth; ++level) {
        children = (children + kTreeWidth - 1) / kTreeWidth;
        for (std::size_t i = 0; i < children; ++i) {
            double* node = tree.node(level, i);
            const double total = detail::running_sums(node, node + kTreeWidth);
            if (level + 1 < tree.depth) *tree.slot(level + 1, i) = total;
        }
    }
    return positive;
}

// leaves[indices[i]] = values[i], in order. Returns the change in the number of positive leaves.
TENSOR_OPTIX_CLONES inline std::int64_t set_leaves(SumTree tree, const std::int64_t* indices,
                                                   std::size_t count,
                                                   const float* values) noexcept {
    return detail::write_rows<false>(tree, indices, count, values);
}

// leaves[indices[i]] = value. Returns the change in the number of positive leaves.
TENSOR_OPTIX_CLONES inline std::int64_t fill_leaves(SumTree tree, const std::int64_t* indices,
                                                    std::size_t count, float value) noexcept {
    return detail::write_rows<true>(tree, indices, count, &value);
}

}  // namespace tensor_optix
