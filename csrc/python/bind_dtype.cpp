// The dtype objects and their few attributes.
#include "python/bind_dtype.h"

#include "python/errors.h"

namespace vt::py {
namespace {

struct PyDType {
  PyObject_HEAD DType dtype;
};

PyTypeObject* g_type = nullptr;
PyObject* g_objects[kDTypeCount];

DType self_dtype(PyObject* self) { return reinterpret_cast<PyDType*>(self)->dtype; }

PyObject* represent(PyObject* self) {
  return PyUnicode_FromFormat("torch.%s", name(self_dtype(self)).data());
}
PyObject* get_is_floating_point(PyObject* self, void*) {
  return PyBool_FromLong(is_float(self_dtype(self)));
}
PyObject* get_is_signed(PyObject* self, void*) {
  const DType t = self_dtype(self);
  return PyBool_FromLong(t != DType::kBool && t != DType::kU8);
}
PyObject* get_itemsize(PyObject* self, void*) {
  return PyLong_FromSize_t(item_size(self_dtype(self)));
}
// Pickled and copied by name: `getattr(module, name)` finds the one object again.
PyObject* reduce(PyObject* self, PyObject*) {
  return PyUnicode_FromString(name(self_dtype(self)).data());
}
PyObject* itself(PyObject* self, PyObject*) { return Py_NewRef(self); }

PyMethodDef g_methods[] = {
    {"__reduce__", reduce, METH_NOARGS, nullptr},
    {"__copy__", itself, METH_NOARGS, nullptr},
    {"__deepcopy__", itself, METH_O, nullptr},
    {},
};
PyGetSetDef g_getset[] = {
    {"is_floating_point", get_is_floating_point, nullptr, "Is it one of the four float types?",
     nullptr},
    {"is_signed", get_is_signed, nullptr, "Can it be negative?", nullptr},
    {"itemsize", get_itemsize, nullptr, "Bytes an element.", nullptr},
    {},
};
PyType_Slot g_slots[] = {
    {Py_tp_doc, const_cast<char*>("An element type, such as torch.float32.")},
    {Py_tp_repr, reinterpret_cast<void*>(represent)},
    {Py_tp_methods, g_methods},
    {Py_tp_getset, g_getset},
    {0, nullptr},
};
PyType_Spec g_spec = {
    "vibetensor._C.dtype", sizeof(PyDType), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE, g_slots};

}  // namespace

bool is_dtype(PyObject* object) {
  return Py_IS_TYPE(object, g_type) || object == reinterpret_cast<PyObject*>(&PyFloat_Type) ||
         object == reinterpret_cast<PyObject*>(&PyLong_Type) ||
         object == reinterpret_cast<PyObject*>(&PyBool_Type);
}

DType dtype_of(PyObject* object) {
  if (VT_LIKELY(Py_IS_TYPE(object, g_type))) return self_dtype(object);
  if (object == reinterpret_cast<PyObject*>(&PyFloat_Type)) return DType::kF64;
  return object == reinterpret_cast<PyObject*>(&PyLong_Type) ? DType::kI64 : DType::kBool;
}

PyObject* wrap_dtype(DType dtype) { return Py_NewRef(g_objects[static_cast<int>(dtype)]); }

void add_dtype_type(PyObject* module) {
  g_type = reinterpret_cast<PyTypeObject*>(checked(PyType_FromSpec(&g_spec)));
  checked(PyModule_AddObjectRef(module, "dtype", reinterpret_cast<PyObject*>(g_type)));
  for (int i = 0; i < kDTypeCount; ++i) {
    auto* object = reinterpret_cast<PyDType*>(checked(g_type->tp_alloc(g_type, 0)));
    object->dtype = static_cast<DType>(i);
    g_objects[i] = reinterpret_cast<PyObject*>(object);
    checked(PyModule_AddObjectRef(module, name(object->dtype).data(), g_objects[i]));
  }
}

}  // namespace vt::py
