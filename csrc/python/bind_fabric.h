// The fabric at the Python door: meshes, pairs of devices, symmetric tensors.
#pragma once
#include <pybind11/pybind11.h>

namespace vt::py {

void bind_fabric(pybind11::module_& module);

}  // namespace vt::py
