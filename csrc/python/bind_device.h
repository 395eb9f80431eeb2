// `_C.device`: the id of a device as an immutable Python object.
#pragma once
#include <Python.h>

#include "base/device.h"

namespace vt::py {

// A device object, a string such as "cuda:0", or the index of a CUDA device.
bool is_device(PyObject* object);
// Only for what is_device accepts. An id without an index is cpu:0 or the current CUDA device.
Device device_of(PyObject* object);
Device existing_device_of(PyObject* object);  // throws if there is no such device
PyObject* wrap_device(Device device);
void add_device_type(PyObject* module);

}  // namespace vt::py
