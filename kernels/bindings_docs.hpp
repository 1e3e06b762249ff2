// What help() says about each kernel. T rows in time, N environments, B rows of a batch, D columns.
#pragma once

namespace tensor_optix::docs {

inline constexpr const char* kModule =
    "Compiled kernels: pure functions on C-contiguous NumPy arrays that the caller owns. Masks are "
    "uint8 or bool. Wrong dtype, layout or shape: ValueError naming the argument; no array at all: "
    "TypeError. The GIL is released.";

inline constexpr const char* kGae =
    "Write generalised advantages and returns (Schulman et al. 2016, arXiv:1506.02438, eq. 16).\n\n"
    "A = delta + gamma * gae_lambda * A_next with delta = r + gamma * v_next - v; where done,\n"
    "A = r - v; where not valid, A = R = 0 and nothing is carried back. R = A + v.\n\n"
    "Args:\n"
    "    rewards, values: [T, N] float32.\n"
    "    dones, valid: [T, N] uint8 or bool.\n"
    "    last_values: [N] float32, the values after the last row.\n"
    "    gamma, gae_lambda: in [0, 1]; their product is formed in double precision.\n"
    "    advantages, returns: [T, N] float32, written.";

inline constexpr const char* kDiscountedReturns =
    "Write discounted returns, G = r + gamma * G_next, cut where done, 0 where not valid.\n\n"
    "Args:\n"
    "    rewards: [T, N] float32.\n"
    "    dones, valid: [T, N] uint8 or bool.\n"
    "    last_values: [N] float32, G after the last row.\n"
    "    gamma: in [0, 1].\n"
    "    returns: [T, N] float32, written.";

inline constexpr const char* kUpdateMoments =
    "Merge a batch into a running mean and population variance (Chan, Golub, LeVeque 1983).\n\n"
    "A row that holds a NaN or an infinity is left out.\n\n"
    "Args:\n"
    "    batch: [B, D] float32.\n"
    "    mean, var: [D] float64, updated.\n"
    "    count: [1] float64, rows seen so far, updated.";

inline constexpr const char* kNormalize =
    "Write (batch - mean) / sqrt(var + epsilon), clipped to [-clip, clip]. NaN stays NaN.\n\n"
    "Args:\n"
    "    batch: [B, D] float32.\n"
    "    mean, var: [D] float64.\n"
    "    clip: the bound; 0 or less does not clip.\n"
    "    epsilon: positive.\n"
    "    out: [B, D] float32, written; may be `batch` itself.";

inline constexpr const char* kUpdateAndNormalize =
    "update_moments(batch, mean, var, count), then normalize(batch, mean, var, clip, epsilon, "
    "out).";

inline constexpr const char* kShuffle =
    "Permute `indices` in place, uniformly (Fisher-Yates, Lemire's bounded draw, splitmix64).\n\n"
    "Args:\n"
    "    indices: [n] int32, permuted.\n"
    "    state: [1] uint64, the generator's state, advanced.";

inline constexpr const char* kGather =
    "Write outputs[k][i] = sources[k][indices[i]] for every field k, in one call.\n\n"
    "Args:\n"
    "    sources: list of arrays [R, ...] of any dtype but object; R may differ.\n"
    "    indices: [B] int32. One outside [0, R) is an IndexError, and nothing is written.\n"
    "    outputs: list of arrays [B, ...], dtype and trailing shape as in `sources`, written.";

inline constexpr const char* kEpisodeStatistics =
    "Add one vector step to the running episodes and report those that it finished.\n\n"
    "Args:\n"
    "    rewards: [N] float32.\n"
    "    dones, valid: [N] uint8 or bool; rows that are not valid are skipped.\n"
    "    running_returns, running_lengths: [N] float64 and int64, updated; zeroed where done.\n"
    "    finished_returns, finished_lengths, finished_envs: [N] float64, int64 and int32; the\n"
    "        first K are written, in the order of the environments.\n\n"
    "Returns:\n"
    "    K, the number of finished episodes.";

}  // namespace tensor_optix::docs
