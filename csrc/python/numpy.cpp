// NumPy arrays that share memory with tensors, both ways. Uses the array interface, so NumPy is no
// build dependency.
#include <pybind11/numpy.h>

#include "autograd/variable.h"
#include "device/deferred.h"
#include "ops/ops.h"
#include "python/conversion.h"
#include "python/gil.h"
#include "python/parse.h"

namespace pyb = pybind11;

namespace vt::py {
namespace {

// The kind and size in an array's type, as NumPy spells them.
std::optional<DType> dtype_from_numpy(const pyb::dtype& type) {
  const char kind = type.kind();
  const auto size = type.itemsize();
  if (kind == 'b') return DType::kBool;
  if (kind == 'u' && size == 1) return DType::kU8;
  if (kind == 'i' && size == 1) return DType::kI8;
  if (kind == 'i' && size == 4) return DType::kI32;
  if (kind == 'i' && size == 8) return DType::kI64;
  if (kind == 'f' && size == 2) return DType::kF16;
  if (kind == 'f' && size == 4) return DType::kF32;
  if (kind == 'f' && size == 8) return DType::kF64;
  return std::nullopt;
}

// What numpy() and __array__ may hand out.
PyObject* shared_array(const Tensor& t) {
  VT_CHECK(t.device().is_cpu(), kType, "can't convert ", t,
           " to numpy; use Tensor.cpu() to copy the tensor to host memory first");
  VT_CHECK(!t.requires_grad(), kRuntime,
           "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.");
  VT_CHECK(t.dtype() != DType::kBF16, kType, "NumPy has no bfloat16; use Tensor.float().numpy()");
  return numpy_from_tensor(t);
}

PyObject* numpy_method(PyObject* self, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    static const char* names[] = {"force", nullptr};
    int force = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$p:numpy", const_cast<char**>(names), &force))
      return nullptr;
    const Tensor& t = unwrap(self);
    return shared_array(force ? to_device(alias(t), {}, false) : t);
  });
}

PyObject* array_method(PyObject* self, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    static const char* names[] = {"dtype", "copy", nullptr};
    PyObject *dtype = Py_None, *copy = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:__array__", const_cast<char**>(names),
                                     &dtype, &copy)) {
      return nullptr;
    }
    Owned array(shared_array(unwrap(self)));
    if (dtype != Py_None) {
      const Owned cast(checked(PyObject_GetAttrString(array.get(), "astype")));
      const Owned arguments(checked(PyTuple_Pack(1, dtype))), options(checked(PyDict_New()));
      checked(PyDict_SetItemString(options.get(), "copy", Py_False));
      array = Owned(checked(PyObject_Call(cast.get(), arguments.get(), options.get())));
    }
    if (copy == Py_True) return PyObject_CallMethod(array.get(), "copy", nullptr);
    return array.release();
  });
}

// What a NumPy function made of a tensor becomes a tensor again, as in torch.
PyObject* array_wrap_method(PyObject*, PyObject* args) {
  return guarded([&]() -> PyObject* {
    PyObject *array, *context = Py_None, *is_scalar = Py_False;
    if (!PyArg_ParseTuple(args, "O|OO:__array_wrap__", &array, &context, &is_scalar))
      return nullptr;
    return wrap(tensor_from_numpy(array));
  });
}

}  // namespace

bool is_ndarray(PyObject* object) {
  // Without NumPy in the process nothing can be an array, and it is not imported for the question.
  if (std::string_view(Py_TYPE(object)->tp_name).substr(0, 6) != "numpy.") return false;
  return pyb::isinstance<pyb::array>(object);
}

PyObject* numpy_from_tensor(const Tensor& t) {
  run_deferred();
  static constexpr const char* kNames[kDTypeCount] = {
      "bool", "uint8", "int8", "int32", "int64", "float16", nullptr, "float32", "float64"};
  const auto item_size = static_cast<pyb::ssize_t>(t.item_size());
  std::vector<pyb::ssize_t> shape, strides;
  for (int i = 0; i < t.dim(); ++i) {
    shape.push_back(static_cast<pyb::ssize_t>(t.sizes()[i]));
    strides.push_back(static_cast<pyb::ssize_t>(t.strides()[i]) * item_size);
  }
  // The array keeps a handle of its own on the memory: the tensor may be pointed elsewhere by
  // `.data = ...`.
  const auto owner = pyb::reinterpret_steal<pyb::object>(wrap(alias(t)));
  return pyb::array(pyb::dtype(kNames[static_cast<int>(t.dtype())]), shape, strides, t.data(),
                    owner)
      .release()
      .ptr();
}

Tensor tensor_from_numpy(PyObject* object) {
  VT_CHECK(is_ndarray(object), kType, "from_numpy(): expected a numpy.ndarray, not ",
           Py_TYPE(object)->tp_name);
  auto array = pyb::reinterpret_borrow<pyb::array>(object);
  const auto dtype = dtype_from_numpy(array.dtype());
  const std::string type_name = pyb::str(array.dtype()).cast<std::string>();
  VT_CHECK(dtype, kType, "can't convert a numpy.ndarray of type ", type_name,
           "; supported are float64, float32, float16, int64, int32, int8, uint8 and bool");
  VT_CHECK(type_name[0] != '>', kType, "can't convert a numpy.ndarray whose bytes are swapped (",
           type_name, ")");
  Dims sizes, strides;
  const auto item_size = static_cast<pyb::ssize_t>(vt::item_size(*dtype));
  int64_t reach = 1;
  for (pyb::ssize_t i = 0; i < array.ndim(); ++i) {
    const pyb::ssize_t step = array.strides(i);
    VT_CHECK(
        step >= 0 || array.shape(i) <= 1, kValue,
        "from_numpy(): at least one stride is negative; make a copy first, as with array.copy()");
    VT_CHECK(step % item_size == 0, kValue,
             "from_numpy(): strides must be multiples of the element size");
    sizes.push_back(array.shape(i));
    strides.push_back(std::max<pyb::ssize_t>(step, 0) / item_size);
    reach = array.shape(i) == 0 ? 0 : reach + (array.shape(i) - 1) * strides.back();
  }
  if (!array.writeable()) {
    checked(PyErr_WarnEx(
        PyExc_UserWarning,
        "from_numpy(): the array is not writable, but the tensor will be; do not write to it", 2));
  }
  PyObject* owner = Py_NewRef(object);
  const auto release = [owner] {
    if (!Py_IsInitialized()) return;  // the process is ending
    HoldGil gil;
    Py_DECREF(owner);
  };
  void* data = const_cast<void*>(array.data());
  const bool empty = array.size() == 0;
  auto storage = Storage::wrap(
      Device{}, data, empty ? 0 : static_cast<size_t>(reach) * vt::item_size(*dtype), release);
  return Tensor(
      Ref<TensorImpl>::adopt(new TensorImpl(std::move(storage), sizes, strides, 0, *dtype)));
}

PyMethodDef numpy_methods[] = {
    {"numpy", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(numpy_method)),
     METH_VARARGS | METH_KEYWORDS,
     "numpy(*, force=False) -> numpy.ndarray\n\nAn array that shares the memory of a CPU tensor. "
     "With force, of a "
     "detached copy on the CPU where one is needed."},
    {"__array__", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(array_method)),
     METH_VARARGS | METH_KEYWORDS, "__array__(dtype=None, copy=None) -> numpy.ndarray"},
    {"__array_wrap__", array_wrap_method, METH_VARARGS,
     "__array_wrap__(array, context=None, return_scalar=False) -> Tensor"},
    {},
};

}  // namespace vt::py
