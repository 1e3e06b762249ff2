// Which of the compiled engines this machine runs, and what they share: compiled for any machine.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

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

namespace {

// Those that this machine runs, the best first.
std::vector<const Engine*> engines() {
    std::vector<const Engine*> found;
#if defined(TENSOR_OPTIX_X86)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        found.push_back(&avx512::kEngine);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        found.push_back(&avx2::kEngine);
#endif
    found.push_back(&baseline::kEngine);
    return found;
}

const Engine& choose() {
    const std::vector<const Engine*> found = engines();
    const char* asked = std::getenv("TENSOR_OPTIX_ENGINE");
    if (!asked || !*asked) return *found.front();
    std::string names;
    for (const Engine* engine : found) {
        if (std::strcmp(engine->instructions, asked) == 0) return *engine;
        names += std::string(names.empty() ? "" : ", ") + engine->instructions;
    }
    throw std::invalid_argument("TENSOR_OPTIX_ENGINE must be what this machine runs (" + names +
                                "), got '" + asked + "'");
}

}  // namespace

const Engine& engine() {
    static const Engine& chosen = choose();
    return chosen;
}

}  // namespace tensor_optix
