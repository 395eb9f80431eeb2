// The subclass of tuple that shapes are.
#include "python/size_type.h"

#include "python/errors.h"

namespace vt::py {
namespace {

PyTypeObject* g_type = nullptr;

// Takes over a reference to a plain tuple.
PyObject* as_size(PyObject* tuple) {
  if (!tuple || !PyTuple_CheckExact(tuple)) return tuple;
  const Py_ssize_t count = PyTuple_GET_SIZE(tuple);
  PyObject* size = g_type->tp_alloc(g_type, count);
  for (Py_ssize_t i = 0; size && i < count; ++i) {
    PyTuple_SET_ITEM(size, i, Py_NewRef(PyTuple_GET_ITEM(tuple, i)));
  }
  Py_DECREF(tuple);
  return size;
}

PyObject* represent(PyObject* self) {
  const Owned list(PySequence_List(self));
  return list ? PyUnicode_FromFormat("torch.Size(%R)", list.get()) : nullptr;
}
PyObject* subscript(PyObject* self, PyObject* key) {
  return as_size(PyTuple_Type.tp_as_mapping->mp_subscript(self, key));
}
PyObject* concatenate(PyObject* self, PyObject* other) {
  return as_size(PyTuple_Type.tp_as_sequence->sq_concat(self, other));
}
PyObject* repeat(PyObject* self, Py_ssize_t count) {
  return as_size(PyTuple_Type.tp_as_sequence->sq_repeat(self, count));
}
PyObject* numel(PyObject* self, PyObject*) {
  int64_t product = 1;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self); ++i) {
    const int64_t size = PyLong_AsLongLong(PyTuple_GET_ITEM(self, i));
    if (size == -1 && PyErr_Occurred()) return nullptr;
    product *= size;
  }
  return PyLong_FromLongLong(product);
}

PyMethodDef g_methods[] = {
    {"numel", numel, METH_NOARGS,
     "numel() -> int\n\nThe number of elements of a tensor of this shape."},
    {},
};
PyType_Slot g_slots[] = {
    {Py_tp_doc, const_cast<char*>("The shape of a tensor: a tuple of ints.")},
    {Py_tp_repr, reinterpret_cast<void*>(represent)},
    {Py_mp_subscript, reinterpret_cast<void*>(subscript)},
    {Py_sq_concat, reinterpret_cast<void*>(concatenate)},
    {Py_sq_repeat, reinterpret_cast<void*>(repeat)},
    {Py_tp_methods, g_methods},
    {0, nullptr},
};
PyType_Spec g_spec = {"vibetensor._C.Size", 0, 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                      g_slots};

PyObject* fill(PyObject* tuple, const Dims& values) {
  checked(tuple);
  for (int i = 0; i < values.size(); ++i) {
    PyTuple_SET_ITEM(tuple, i, PyLong_FromLongLong(values[i]));
  }
  return tuple;
}

}  // namespace

PyObject* wrap_size(const Dims& sizes) {
  return fill(g_type->tp_alloc(g_type, sizes.size()), sizes);
}
PyObject* wrap_tuple(const Dims& values) { return fill(PyTuple_New(values.size()), values); }

void add_size_type(PyObject* module) {
  const Owned bases(checked(PyTuple_Pack(1, &PyTuple_Type)));
  g_type = reinterpret_cast<PyTypeObject*>(checked(PyType_FromSpecWithBases(&g_spec, bases.get())));
  checked(PyModule_AddObjectRef(module, "Size", reinterpret_cast<PyObject*>(g_type)));
}

}  // namespace vt::py
