// The engine's functions for one instruction set; the build compiles this file once for each.
#include "twin_updates.hpp"
#include "updates.hpp"

#define TENSOR_OPTIX_TEXT_OF(name) #name
#define TENSOR_OPTIX_TEXT(name) TENSOR_OPTIX_TEXT_OF(name)

namespace tensor_optix {
namespace TENSOR_OPTIX_ISA {
namespace {

void product_of(const float* left, bool left_transposed, const float* right, bool right_transposed,
                const float* bias, std::size_t rows, std::size_t columns, std::size_t depth,
                float* result, Workspace& workspace) {
    workspace.begin(kPacked);
    product(left_transposed ? transposed(left, rows) : by_rows(left, depth),
            right_transposed ? transposed(right, depth) : by_rows(right, columns), bias, rows,
            columns, depth, result, workspace.take(kPacked));
}

void forward_of(const Network& network, const float* inputs, std::size_t rows, float* outputs,
                Workspace& workspace) {
    constexpr std::size_t kMostRows = 512;  // whose activations stay in the caches
    workspace.begin(floats_of_passes(network, std::min(kMostRows, rows)));
    float* const mark = workspace.mark();
    for (std::size_t first = 0; first < rows; first += kMostRows) {
        const std::size_t part = std::min(kMostRows, rows - first);
        Trace trace;
        const float* found =
            forward(network, inputs + first * network.inputs(), part, trace, workspace);
        std::copy(found, found + part * network.outputs(), outputs + first * network.outputs());
        workspace.release(mark);
    }
}

}  // namespace

extern const Engine kEngine;
const Engine kEngine = {TENSOR_OPTIX_TEXT(TENSOR_OPTIX_ISA),
                        product_of,
                        forward_of,
                        log_probs,
                        ppo,
                        dqn,
                        sac,
                        td3,
                        policy_gradient,
                        blend};

}  // namespace TENSOR_OPTIX_ISA
}  // namespace tensor_optix
