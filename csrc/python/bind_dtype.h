// `_C.dtype`: one immutable object an element type.
#pragma once
#include <Python.h>

#include "base/dtype.h"

namespace vt::py {

// A dtype object, or Python's float, int or bool, which stand for float64, int64 and bool as in
// torch.
bool is_dtype(PyObject* object);
DType dtype_of(PyObject* object);   // only for objects that is_dtype accepts
PyObject* wrap_dtype(DType dtype);  // a new reference to the type's one object
void add_dtype_type(PyObject* module);

}  // namespace vt::py
