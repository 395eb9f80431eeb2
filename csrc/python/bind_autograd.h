// Autograd at the Python door: nodes, hooks, backward and grad.
#pragma once
#include <pybind11/pybind11.h>

#include "autograd/node.h"

namespace vt::py {

PyObject* wrap_node(Ref<Node> node);  // None for null
void bind_autograd(pybind11::module_& module);

}  // namespace vt::py
