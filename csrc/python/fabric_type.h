// `_C.FabricTensor`: how a Python object holds a fabric tensor, and how the generated callers get
// from one to the other.
#pragma once
#include <Python.h>

#include <optional>
#include <vector>

#include "python/parse.h"
#include "sharding/fabric_tensor.h"

namespace vt::py {

struct PyFabricTensor {
  PyObject_HEAD sharding::FabricTensor tensor;
  PyObject* weak_references;
};

extern PyTypeObject* fabric_tensor_type;

inline bool is_fabric_tensor(PyObject* object) {
  return Py_IS_TYPE(object, fabric_tensor_type) ||
         PyType_IsSubtype(Py_TYPE(object), fabric_tensor_type);
}
bool has_fabric_tensors(PyObject* object);  // is it a list or tuple that starts with one?
// Only for objects that are fabric tensors.
inline const sharding::FabricTensor& unwrap_fabric(PyObject* object) {
  return reinterpret_cast<PyFabricTensor*>(object)->tensor;
}

PyObject* wrap(sharding::FabricTensor t);  // a new object; None for an undefined tensor
PyObject* wrap(const std::vector<sharding::FabricTensor>& list);  // a tuple

// Converters of arguments, as in parse.h.
const sharding::FabricTensor& fabric_tensor(const Arguments& a, int i, const Signature& s);
sharding::FabricTensor optional_fabric_tensor(const Arguments& a, int i, const Signature& s);
sharding::FabricOperand fabric_operand(const Arguments& a, int i, const Signature& s);
std::vector<sharding::FabricTensor> fabric_tensors(const Arguments& a, int i, const Signature& s);

extern PyTypeObject* mesh_type;  // pybind11's, set when it is bound
// The mesh that is given as a device, or null.
const fabric::Mesh* mesh_value(PyObject* mesh);
inline const fabric::Mesh* mesh_of(PyObject* object) {
  return object && VT_UNLIKELY(Py_IS_TYPE(object, mesh_type)) ? mesh_value(object) : nullptr;
}
// device= of what is made like a fabric tensor (the first argument): its mesh, or nothing.
std::optional<Device> no_other_mesh(const Arguments& a, int i, const Signature& s);
// A new tensor of the first rank's device as a replicated one.
PyObject* wrap_everywhere(const Tensor& t, const fabric::Mesh& mesh);

// Can it stand beside a fabric tensor, or be refused by name?
bool is_operand(PyObject* object);
// The TypeError of an operator between a tensor of one device and one of the fabric; null.
PyObject* refuse_mixed(const char* op, PyObject* x, PyObject* y);

// Generated.
void fill_fabric_number_slots(PyNumberMethods& slots);
PyObject* compare_fabric_tensors(PyObject* self, PyObject* other, int op);

void add_fabric_tensor_type(PyObject* module);

}  // namespace vt::py
