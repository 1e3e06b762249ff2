// The Python functions of the sum tree and of the priorities kept in it.
#pragma once

#include <nanobind/nanobind.h>

namespace tensor_optix {

void bind_sum_tree(nanobind::module_& m);

}  // namespace tensor_optix
