// Episode statistics: in come the vector steps of a window, out go return and length of the
// episodes that they finished.
#pragma once

#include "multiversioning.hpp"

namespace tensor_optix {

struct EpisodeArrays {
    const float* rewards;
    const std::uint8_t* dones;
    const std::uint8_t* valid;
    double* running_returns;
    std::int64_t* running_lengths;
    double* finished_returns;
    std::int64_t* finished_lengths;
    std::int32_t* finished_envs;
};

// Adds the valid rows; returns how many episodes ended.
inline std::size_t episode_statistics(const EpisodeArrays& a, std::size_t rows,
                                      std::size_t envs) noexcept {
    std::size_t finished = 0;
    for (std::size_t t = 0, at = 0; t < rows; ++t) {
        for (std::size_t n = 0; n < envs; ++n, ++at) {
            if (a.valid[at] == 0) continue;
            a.running_returns[n] += a.rewards[at];
            a.running_lengths[n] += 1;
            if (a.dones[at] == 0) continue;
            a.finished_returns[finished] = a.running_returns[n];
            a.finished_lengths[finished] = a.running_lengths[n];
            a.finished_envs[finished] = static_cast<std::int32_t>(n);
            a.running_returns[n] = 0.0;
            a.running_lengths[n] = 0;
            ++finished;
        }
    }
    return finished;
}

}  // namespace tensor_optix
