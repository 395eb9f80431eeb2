// The step compiler's recording.
#pragma once
#include <pybind11/pybind11.h>

namespace vt::py {

void bind_fuse(pybind11::module_& module);

}  // namespace vt::py
