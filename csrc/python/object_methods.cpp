// How tensors are copied, pickled, formatted, and turned into subclasses.
#include "autograd/variable.h"
#include "ops/ops.h"
#include "python/bind_dtype.h"
#include "python/conversion.h"
#include "python/parse.h"
#include "python/size_type.h"

namespace vt::py {
namespace {

// The attributes of a subclass object go with its copies.
void copy_dict(PyObject* from, PyObject* to, PyObject* memo) {
  const Owned dict(PyObject_GetAttrString(from, "__dict__"));
  if (!dict) {
    PyErr_Clear();
    return;
  }
  if (PyDict_GET_SIZE(dict.get()) == 0) return;
  const Owned copy_module(checked(PyImport_ImportModule("copy")));
  const Owned copied(
      checked(PyObject_CallMethod(copy_module.get(), "deepcopy", "OO", dict.get(), memo)));
  const Owned target(checked(PyObject_GetAttrString(to, "__dict__")));
  checked(PyDict_Update(target.get(), copied.get()));
}

PyObject* deepcopy(PyObject* self, PyObject* memo) {
  return guarded([&]() -> PyObject* {
    const Tensor& t = unwrap(self);
    VT_CHECK(
        is_leaf(t), kRuntime,
        "only tensors created by the user (leaves) can be deep-copied, this one has a history: ",
        t);
    const Owned id(checked(PyLong_FromVoidPtr(self)));
    if (PyObject* known = PyDict_GetItemWithError(memo, id.get())) return Py_NewRef(known);
    Owned result;
    {
      GradMode no_grad(false);
      result = Owned(wrap_as(Py_TYPE(self), clone(t)));
      if (const Tensor grad = grad_of(t); grad.defined())
        set_grad(unwrap(result.get()), clone(grad));
    }
    if (t.requires_grad()) set_requires_grad(unwrap(result.get()), true);
    checked(PyDict_SetItem(memo, id.get(), result.get()));
    copy_dict(self, result.get(), memo);
    return result.release();
  });
}

PyObject* reduce_ex(PyObject* self, PyObject*) {
  return guarded([&]() -> PyObject* {
    const Tensor& t = unwrap(self);
    VT_CHECK(is_leaf(t), kRuntime, "only leaf tensors can be pickled, this one has a history: ", t,
             "; use detach()");
    const Owned module(checked(PyImport_ImportModule("vibetensor._C")));
    const Owned rebuild(checked(PyObject_GetAttrString(module.get(), "_rebuild_tensor")));
    GradMode no_grad(false);
    const Tensor host = contiguous(to_device(t, {}, false));
    const Owned bytes(checked(
        PyBytes_FromStringAndSize(host.data<char>(), static_cast<Py_ssize_t>(host.bytes()))));
    const Owned dtype(wrap_dtype(t.dtype())), shape(wrap_tuple(t.sizes()));
    Owned state(PyObject_GetAttrString(self, "__dict__"));
    if (!state) PyErr_Clear();
    return Py_BuildValue("O(OOOOO)O", rebuild.get(), Py_TYPE(self), bytes.get(), dtype.get(),
                         shape.get(), t.requires_grad() ? Py_True : Py_False,
                         state ? state.get() : Py_None);
  });
}

PyObject* format(PyObject* self, PyObject* spec) {
  return guarded([&]() -> PyObject* {
    const Tensor& t = unwrap(self);
    if (t.dim() == 0) {
      const Owned value(checked(wrap_scalar(item(t))));
      return PyObject_Format(value.get(), spec);
    }
    VT_CHECK(PyUnicode_Check(spec) && PyUnicode_GET_LENGTH(spec) == 0, kType,
             "unsupported format string for a Tensor of ", t.dim(),
             " dimensions; only a 0-d tensor formats as a number");
    return PyObject_Str(self);
  });
}

PyObject* make_subclass(PyObject*, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    static const char* names[] = {"cls", "data", "requires_grad", nullptr};
    PyObject *type, *data;
    int requires_grad = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O|p:_make_subclass",
                                     const_cast<char**>(names), &PyType_Type, &type, &data,
                                     &requires_grad)) {
      return nullptr;
    }
    VT_CHECK(PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(type), tensor_type), kType,
             "_make_subclass: cls must be a subclass of Tensor");
    VT_CHECK(is_tensor(data), kType, "_make_subclass: data must be a Tensor, not ",
             Py_TYPE(data)->tp_name);
    Owned result(wrap_as(reinterpret_cast<PyTypeObject*>(type), alias(unwrap(data))));
    if (requires_grad) set_requires_grad(unwrap(result.get()), true);
    return result.release();
  });
}

}  // namespace

PyMethodDef object_methods[] = {
    {"__deepcopy__", deepcopy, METH_O, "A leaf with memory of its own."},
    {"__reduce_ex__", reduce_ex, METH_O, "Pickles the values; the copy is on cpu:0."},
    {"__format__", format, METH_O, "A 0-d tensor formats as its value."},
    {"_make_subclass", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(make_subclass)),
     METH_VARARGS | METH_KEYWORDS | METH_STATIC,
     "_make_subclass(cls, data, requires_grad=False)\n\nAn object of a subclass over the memory of "
     "data."},
    {},
};

}  // namespace vt::py
