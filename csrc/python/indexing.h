// `t[...]` and `t[...] = value`.
#pragma once
#include <Python.h>

namespace vt::py {

PyObject* get_item(PyObject* self, PyObject* index);
int set_item(PyObject* self, PyObject* index, PyObject* value);  // value null: deletion, an error

}  // namespace vt::py
