// `_C.Tensor`: how a Python object holds a tensor, and how to get from one to the other.
#pragma once
#include <Python.h>

#include <tuple>
#include <vector>

#include "python/errors.h"
#include "tensor/tensor.h"

namespace vt::py {

// The handle never changes during the object's life; the tensor's impl points back, so that one
// tensor has one object.
struct PyTensor {
  PyObject_HEAD Tensor tensor;
  PyObject* weak_references;
};

extern PyTypeObject* tensor_type;

inline bool is_tensor(PyObject* object) {
  return Py_IS_TYPE(object, tensor_type) || PyType_IsSubtype(Py_TYPE(object), tensor_type);
}
// Only for objects that are tensors.
inline const Tensor& unwrap(PyObject* object) {
  return reinterpret_cast<PyTensor*>(object)->tensor;
}

PyObject* new_wrapper(Tensor&& t);

// The living object of this tensor, else a new one; None for an undefined tensor.
inline PyObject* wrap(Tensor t) {
  if (VT_UNLIKELY(!t.defined())) return Py_NewRef(Py_None);
  // A count of 0 is an object in the middle of its own deallocation.
  if (auto* object = static_cast<PyObject*>(t.impl()->python_object);
      object && Py_REFCNT(object) > 0) {
    return Py_NewRef(object);
  }
  return new_wrapper(std::move(t));
}

inline PyObject* wrap(bool value) { return Py_NewRef(value ? Py_True : Py_False); }
inline PyObject* wrap(int64_t value) { return PyLong_FromLongLong(value); }
inline PyObject* wrap(double value) { return PyFloat_FromDouble(value); }
PyObject* wrap(const std::vector<Tensor>& list);  // a tuple

template <class... Tensors>
PyObject* wrap_all(Tensors&&... tensors) {
  PyObject* tuple = checked(PyTuple_New(sizeof...(tensors)));
  Py_ssize_t i = 0;
  (PyTuple_SET_ITEM(tuple, i++, wrap(std::forward<Tensors>(tensors))), ...);
  return tuple;
}
template <class... Tensors>
PyObject* wrap(std::tuple<Tensors...> tensors) {
  return std::apply([](auto&&... each) { return wrap_all(std::move(each)...); },
                    std::move(tensors));
}
inline PyObject* wrap(std::pair<Tensor, Tensor> pair) {
  return wrap_all(std::move(pair.first), std::move(pair.second));
}

// A new object of `type`, tensor_type or a subtype of it, for a tensor that has no object yet.
PyObject* wrap_as(PyTypeObject* type, Tensor t);

// Creates the type and adds it to the module.
void add_tensor_type(PyObject* module);

}  // namespace vt::py
