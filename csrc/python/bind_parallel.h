// Data-parallel training at the Python door: the gradient reducer.
#pragma once
#include <pybind11/pybind11.h>

namespace vt::py {

void bind_parallel(pybind11::module_& module);

}  // namespace vt::py
