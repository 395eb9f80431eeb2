// Placements, and what fabric tensors have besides operators, as Python objects.
#pragma once
#include <pybind11/pybind11.h>

namespace vt::py {

void bind_sharding(pybind11::module_& module);

}  // namespace vt::py
