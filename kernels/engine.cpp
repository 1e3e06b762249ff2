// The engine's functions for one instruction set; the build compiles this file once for each.
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
            right_transposed ? transposed(right, depth) : by_rows(right, columns), bias, rows, columns,
            depth, result, workspace.take(kPacked));
}

void forward_of(const Network& network, const float* inputs, std::size_t rows, float* outputs,
                Workspace& workspace) {
    Trace trace;
    workspace.begin(floats_of_passes(network, rows));
    const float* found = forward(network, inputs, rows, trace, workspace);
    std::copy(found, found + rows * network.outputs(), outputs);
}

}  // namespace

extern const Engine kEngine;
const Engine kEngine = {TENSOR_OPTIX_TEXT(TENSOR_OPTIX_ISA), product_of, forward_of, ppo};

}  // namespace TENSOR_OPTIX_ISA
}  // namespace tensor_optix
