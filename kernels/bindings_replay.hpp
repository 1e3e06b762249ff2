// The replay ring's part of the module.
#pragma once

#include <nanobind/nanobind.h>

void bind_replay(nanobind::module_& m);
