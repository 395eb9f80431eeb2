// Graphs of captured work as Python objects.
#pragma once
#include <pybind11/pybind11.h>

namespace vt::py {

void bind_graph(pybind11::module_& module);

}  // namespace vt::py
