// Autocast's modes and regions at the Python door.
#pragma once
#include <pybind11/pybind11.h>

namespace vt::py {

void bind_autocast(pybind11::module_& module);

}  // namespace vt::py
