// What help() says about the sum tree's kernels. C leaves, M nodes, B rows.
#pragma once

namespace tensor_optix::docs {

inline constexpr const char* kSumTreeRebuild =
    "Compute every sum of a tree from its leaves.\n\n"
    "Args:\n"
    "    leaves: [C] float32, finite and not negative.\n"
    "    nodes: [M, 32] float64, written. Levels of ceil(C / 256), a 16th of it and so on up to 1\n"
    "        node; each node holds the sums of its 16 children, then their running sums.\n\n"
    "Returns:\n"
    "    How many leaves are positive.";

inline constexpr const char* kSumTreeSet =
    "Set leaves, in order (of a row that comes twice the last value stays), and the sums above.\n\n"
    "A value that is negative or not finite is a ValueError, an index outside [0, C) an\n"
    "IndexError; nothing is written then.\n\n"
    "Args:\n"
    "    leaves: [C] float32, updated.\n"
    "    nodes: [M, 32] float64, updated.\n"
    "    indices: [B] int64.\n"
    "    values: [B] float32.\n\n"
    "Returns:\n"
    "    The change in the number of positive leaves.";

inline constexpr const char* kSumTreeFill =
    "Set leaves to one value; else as sum_tree_set.\n\n"
    "Args:\n"
    "    leaves: [C] float32, updated.\n"
    "    nodes: [M, 32] float64, updated.\n"
    "    indices: [B] int64.\n"
    "    value: finite and not negative.\n\n"
    "Returns:\n"
    "    The change in the number of positive leaves.";

inline constexpr const char* kSumTreeSample =
    "Draw stratified batches of leaves, and their importance weights (Schaul et al. 2016).\n\n"
    "Row i of a batch comes from [i, i + 1) * total / count; no leaf of value 0 is drawn. A "
    "weight\n"
    "is (N * p / total) ** -beta over its batch's largest, so (smallest p of the batch / p) ** "
    "beta:\n"
    "neither N nor the total matters. A total of 0 is a ValueError.\n\n"
    "Args:\n"
    "    leaves: [C] float32.\n"
    "    nodes: [M, 32] float64.\n"
    "    count: rows of a batch, at least 1.\n"
    "    batches: how many batches, at least 1.\n"
    "    beta: in [0, 1].\n"
    "    state: [1] uint64, the state of a splitmix64 generator, advanced.\n"
    "    indices: [batches * count] int64, written, ascending within a batch.\n"
    "    weights: [batches * count] float32, written.";

inline constexpr const char* kPrioritiesReplace =
    "Let rows in with the largest raw priority seen so far, then take rows out.\n\n"
    "A row that does both is out. An index outside [0, C) is an IndexError, a count outside [0, M] "
    "a\n"
    "ValueError; nothing is written then.\n\n"
    "Args:\n"
    "    leaves: [C] float32, updated: raw ** alpha, at least the smallest normal number.\n"
    "    nodes: [M, 32] float64, updated.\n"
    "    raw: [C] float32, updated.\n"
    "    changes: [2, M] int64: rows that come in, and rows that leave.\n"
    "    counts: [2] int64, how many of each; what follows in changes is not looked at.\n"
    "    alpha: in [0, 1].\n"
    "    running_max: [1] float32.\n\n"
    "Returns:\n"
    "    The change in the number of positive leaves.";

inline constexpr const char* kPrioritiesUpdate =
    "Give the rows that are in (leaf > 0) the raw priority |td_error| + eps; others stay out.\n\n"
    "A row whose sum is not finite keeps what it had. Of a row that comes twice the last stays.\n\n"
    "Args:\n"
    "    leaves: [C] float32, updated: raw ** alpha, at least the smallest normal number.\n"
    "    nodes: [M, 32] float64, updated.\n"
    "    raw: [C] float32, updated.\n"
    "    indices: [B] int64. One outside [0, C) is an IndexError, and nothing is written.\n"
    "    td_errors: [B] float32.\n"
    "    alpha, eps: in [0, 1].\n"
    "    running_max: [1] float32, raised to the largest raw priority.\n\n"
    "Returns:\n"
    "    How many td_errors were not finite.";

inline constexpr const char* kPrioritiesRescale =
    "Recompute the positive leaves from the raw priorities, raw ** alpha, and every sum.\n\n"
    "Args:\n"
    "    leaves: [C] float32, updated.\n"
    "    nodes: [M, 32] float64, written.\n"
    "    raw: [C] float32.\n"
    "    alpha: in [0, 1].";

}  // namespace tensor_optix::docs
