// The collectives at the Python door. bind_fabric comes first: it brings the mesh.
#pragma once
#include <pybind11/pybind11.h>

namespace vt::py {

void bind_collectives(pybind11::module_& module);

}  // namespace vt::py
