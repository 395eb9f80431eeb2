// Values across the border: single elements, nested lists, NumPy arrays, DLPack capsules.
#pragma once
#include <Python.h>

#include <optional>

#include "base/scalar.h"
#include "tensor/tensor.h"

namespace vt::py {

// The value of a one-element tensor, from any device; RuntimeError for any other.
Scalar item(const Tensor& t);
PyObject* wrap_scalar(Scalar value);  // bool, int or float
PyObject* tolist(const Tensor& t);

// torch.tensor: always a copy. `data` is a number, nested lists, a NumPy array or a tensor.
Tensor tensor_from_data(PyObject* data, std::optional<DType> dtype, Device device);

bool is_ndarray(PyObject* object);
Tensor tensor_from_numpy(PyObject* array);     // shares memory
PyObject* numpy_from_tensor(const Tensor& t);  // shares memory
Tensor tensor_from_dlpack(PyObject* object);

std::string repr(const Tensor& t);

// Method tables of single files, merged into the type by tensor_type.cpp; all end with an empty
// entry.
extern PyMethodDef conversion_methods[];
extern PyMethodDef numpy_methods[];
extern PyMethodDef dlpack_methods[];
extern PyMethodDef property_methods[];
extern PyMethodDef autograd_methods[];
extern PyMethodDef object_methods[];
extern PyMethodDef like_methods[];
extern PyGetSetDef properties[];

// Functions of the module.
extern PyMethodDef construct_functions[];
extern PyMethodDef compare_functions[];

PyObject* repr_slot(PyObject* self);

}  // namespace vt::py
