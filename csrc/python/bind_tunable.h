// Choices of algorithms for matrix products, as Python functions.
#pragma once
#include <pybind11/pybind11.h>

namespace vt::py {

void bind_tunable(pybind11::module_& module);

}  // namespace vt::py
