// Tensors from Python data: torch.tensor, as_tensor, and the rebuilding of pickled ones.
#include <cstring>

#include "autograd/variable.h"
#include "ops/ops.h"
#include "python/bind_dtype.h"
#include "python/conversion.h"
#include "python/parse.h"
#include "python/size_type.h"

namespace vt::py {
namespace {

bool is_sequence(PyObject* object) {
  if (PyList_Check(object) || PyTuple_Check(object)) return true;
  if (PyUnicode_Check(object) || PyBytes_Check(object) || PyDict_Check(object)) return false;
  return PySequence_Check(object) && PySequence_Size(object) >= 0;
}

// Clears the error that asking a 0-d array for its length leaves.
bool is_nested(PyObject* object) {
  const bool result = is_sequence(object);
  if (PyErr_Occurred()) PyErr_Clear();
  return result;
}

Owned items_of(PyObject* sequence) {
  return Owned(checked(PySequence_Fast(sequence, "expected a sequence")));
}

// The dtype that one leaf asks for; float is float32, the default.
DType leaf_dtype(PyObject* leaf) {
  if (PyBool_Check(leaf)) return DType::kBool;
  if (PyFloat_CheckExact(leaf)) return DType::kF32;
  if (PyLong_Check(leaf)) return DType::kI64;
  if (is_tensor(leaf)) return unwrap(leaf).dtype();
  if (is_number(leaf)) {
    // A NumPy scalar has its own type.
    const Owned array_dtype(PyObject_GetAttrString(leaf, "dtype"));
    if (!array_dtype) {
      PyErr_Clear();
      return PyFloat_Check(leaf) ? DType::kF32 : DType::kI64;
    }
    const Owned text(checked(PyObject_Str(array_dtype.get())));
    const char* utf8 = PyUnicode_AsUTF8(text.get());
    for (int i = 0; utf8 && i < kDTypeCount; ++i) {
      if (name(static_cast<DType>(i)) == utf8) return static_cast<DType>(i);
    }
    return PyIndex_Check(leaf) ? DType::kI64 : DType::kF64;
  }
  fail(ErrorKind::kType, "tensor(): cannot make an element of a ", Py_TYPE(leaf)->tp_name);
}

// First pass: the shape, checked to be rectangular, and the common type.
struct Survey {
  Dims shape;
  std::optional<DType> dtype;
  bool complete = false;  // has the first leaf been reached, so that the shape is known?

  void visit(PyObject* object, int depth) {
    if (!is_nested(object)) {
      VT_CHECK(!complete || depth == shape.size(), kValue,
               "tensor(): expected a sequence of length ", depth < shape.size() ? shape[depth] : 0,
               " at dim ", depth, ", got a ", Py_TYPE(object)->tp_name);
      complete = true;
      const DType leaf = leaf_dtype(object);
      dtype = dtype ? promote(*dtype, leaf) : leaf;
      return;
    }
    const Owned items = items_of(object);
    const int64_t count = PySequence_Fast_GET_SIZE(items.get());
    if (depth == shape.size() && !complete) shape.push_back(count);
    VT_CHECK(depth < shape.size() && shape[depth] == count, kValue,
             "tensor(): expected a sequence of length ", depth < shape.size() ? shape[depth] : 0,
             " at dim ", depth, " (got ", count, ")");
    for (int64_t i = 0; i < count; ++i) visit(PySequence_Fast_GET_ITEM(items.get(), i), depth + 1);
    if (count == 0) complete = true;
  }
};

Scalar leaf_value(PyObject* leaf) { return is_tensor(leaf) ? item(unwrap(leaf)) : scalar_of(leaf); }

// Second pass: the values.
template <class T>
T* store(PyObject* object, int depth, int dims, T* out) {
  if (depth == dims) {
    *out = leaf_value(object).to<T>();
    return out + 1;
  }
  const Owned items = items_of(object);
  const Py_ssize_t count = PySequence_Fast_GET_SIZE(items.get());
  for (Py_ssize_t i = 0; i < count; ++i)
    out = store(PySequence_Fast_GET_ITEM(items.get(), i), depth + 1, dims, out);
  return out;
}

Tensor tensor_from_sequence(PyObject* data, std::optional<DType> wanted) {
  Survey survey;
  survey.visit(data, 0);
  const Tensor t = empty(survey.shape, wanted.value_or(survey.dtype.value_or(DType::kF32)), {});
  visit_dtype(t.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    store(data, 0, t.dim(), t.data<T>());
  });
  return t;
}

// --- functions of the module ---

constexpr Parameter kTensorParameters[] = {{"data", 'x', false, false},
                                           {"dtype", 'd', true, true},
                                           {"device", 'D', true, true},
                                           {"requires_grad", 'b', true, true},
                                           {"pin_memory", 'b', true, true}};
constexpr Signature kTensor = {
    "tensor(data, *, dtype=None, device=None, requires_grad=False, pin_memory=False) -> Tensor",
    kTensorParameters, 5, 1};

PyObject* tensor_function(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* names) {
  return guarded([&]() -> PyObject* {
    Arguments a;
    if (!bind(kTensor, nullptr, args, nargs, names, a)) return nullptr;
    const Tensor t = tensor_from_data(a.slot[0], optional_dtype(a, 1, kTensor),
                                      optional_device(a, 2, kTensor).value_or(Device{}));
    if (a.given(3) && boolean(a, 3, kTensor)) set_requires_grad(t, true);
    if (!a.given(4) || !boolean(a, 4, kTensor)) return wrap(t);
    const Owned object(wrap(t));
    return PyObject_CallMethod(object.get(), "pin_memory", nullptr);
  });
}

constexpr Parameter kAsTensorParameters[] = {
    {"data", 'x', false, false}, {"dtype", 'd', true, false}, {"device", 'D', true, false}};
constexpr Signature kAsTensor = {"as_tensor(data, dtype=None, device=None) -> Tensor",
                                 kAsTensorParameters, 3, 3};

PyObject* as_tensor(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* names) {
  return guarded([&]() -> PyObject* {
    Arguments a;
    if (!bind(kAsTensor, nullptr, args, nargs, names, a)) return nullptr;
    const auto dtype = optional_dtype(a, 1, kAsTensor);
    const auto device = optional_device(a, 2, kAsTensor);
    Tensor t;
    if (is_tensor(a.slot[0])) t = unwrap(a.slot[0]);
    else if (is_ndarray(a.slot[0])) t = tensor_from_numpy(a.slot[0]);
    else return wrap(tensor_from_data(a.slot[0], dtype, device.value_or(Device{})));
    if (device) t = to_device(t, *device, false);
    return wrap(dtype ? to_dtype(t, *dtype) : t);
  });
}

// _rebuild_tensor(type, bytes, dtype, shape, requires_grad): what pickles hold.
PyObject* rebuild(PyObject*, PyObject* args) {
  return guarded([&]() -> PyObject* {
    PyObject *type, *bytes, *dtype, *shape;
    int requires_grad;
    if (!PyArg_ParseTuple(args, "O!SOO!p", &PyType_Type, &type, &bytes, &dtype, &PyTuple_Type,
                          &shape, &requires_grad)) {
      return nullptr;
    }
    VT_CHECK(
        is_dtype(dtype) && PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(type), tensor_type),
        kType, "_rebuild_tensor: not what a pickled tensor holds");
    Dims sizes;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shape); ++i) {
      const int64_t size = PyLong_AsLongLong(PyTuple_GET_ITEM(shape, i));
      if (size == -1 && PyErr_Occurred()) throw PythonError();
      sizes.push_back(size);
    }
    const Tensor t = empty(sizes, dtype_of(dtype), {});
    VT_CHECK(static_cast<size_t>(PyBytes_GET_SIZE(bytes)) == t.bytes(), kValue,
             "_rebuild_tensor: ", PyBytes_GET_SIZE(bytes), " bytes do not fill ", t);
    if (t.bytes() > 0) std::memcpy(t.data(), PyBytes_AS_STRING(bytes), t.bytes());
    if (requires_grad) set_requires_grad(t, true);
    return wrap_as(reinterpret_cast<PyTypeObject*>(type), t);
  });
}

PyCFunction with_keywords(PyObject* (*f)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*)) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(f));
}

}  // namespace

Tensor tensor_from_data(PyObject* data, std::optional<DType> dtype, Device device) {
  if (is_tensor(data) || is_ndarray(data)) {
    const Tensor source = is_tensor(data) ? alias(unwrap(data)) : tensor_from_numpy(data);
    const DType wanted = dtype.value_or(source.dtype());
    GradMode no_grad(false);
    if (wanted == source.dtype() && device == source.device()) return clone(source);
    return to_device(to_dtype(source, wanted), device, false);
  }
  const Tensor t = tensor_from_sequence(data, dtype);
  return device == t.device() ? t : to_device(t, device, false);
}

PyMethodDef construct_functions[] = {
    {"tensor", with_keywords(tensor_function), METH_FASTCALL | METH_KEYWORDS,
     "tensor(data, *, dtype=None, device=None, requires_grad=False, pin_memory=False) -> Tensor\n\n"
     "A copy of a number, nested lists, a NumPy array or a tensor. Without a dtype: float32 for "
     "Python floats, int64 "
     "for ints, bool for bools."},
    {"as_tensor", with_keywords(as_tensor), METH_FASTCALL | METH_KEYWORDS,
     "as_tensor(data, dtype=None, device=None) -> Tensor\n\n"
     "As tensor(), but shares the memory of tensors and NumPy arrays where type and device stay."},
    {"_rebuild_tensor", rebuild, METH_VARARGS, "Makes the tensor that a pickle holds."},
    {},
};

}  // namespace vt::py
