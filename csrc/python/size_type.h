// `_C.Size`: shapes as Python sees them, a tuple with a few words more.
#pragma once
#include <Python.h>

#include "base/dims.h"

namespace vt::py {

PyObject* wrap_size(const Dims& sizes);
PyObject* wrap_tuple(const Dims& values);  // a plain tuple, for strides
void add_size_type(PyObject* module);

}  // namespace vt::py
