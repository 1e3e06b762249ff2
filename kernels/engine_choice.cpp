// Which of the compiled engines this machine runs, and what they share: compiled for any machine.
#include "engine.hpp"

namespace tensor_optix {

void Workspace::begin(std::size_t floats) {
    if (memory_.size() < floats + kAlignment) memory_.resize(floats + kAlignment);
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    const std::uintptr_t bytes = kAlignment * sizeof(float);
    next_ = memory_.data() + (bytes - address % bytes) % bytes / sizeof(float);
}

#if defined(TENSOR_OPTIX_X86)
namespace avx512 {
extern const Engine kEngine;
}
namespace avx2 {
extern const Engine kEngine;
}
#endif
namespace baseline {
extern const Engine kEngine;
}

const Engine& engine() {
#if defined(TENSOR_OPTIX_X86)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return avx512::kEngine;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::kEngine;
#endif
    return baseline::kEngine;
}

}  // namespace tensor_optix
