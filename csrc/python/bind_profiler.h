// Seeing what a program does: ranges for profilers.
#pragma once
#include <pybind11/pybind11.h>

namespace vt::py {

void bind_profiler(pybind11::module_& module);

}  // namespace vt::py
