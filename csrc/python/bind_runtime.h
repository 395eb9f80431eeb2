// Threads, devices, memory, random state and facts about the build.
#pragma once
#include <pybind11/pybind11.h>

namespace vt::py {

void bind_runtime(pybind11::module_& module);
void bind_properties(pybind11::module_& module);
void bind_memory(pybind11::module_& module);
void bind_streams(pybind11::module_& module);

}  // namespace vt::py
