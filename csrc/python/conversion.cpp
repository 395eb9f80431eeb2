// Single elements and nested lists out of tensors; casts and moves between devices.
#include "python/conversion.h"

#include <vector>

#include "device/capture.h"
#include "device/deferred.h"
#include "ops/ops.h"
#include "python/bind_device.h"
#include "python/bind_dtype.h"
#include "python/parse.h"

namespace vt::py {
namespace {

Scalar read_scalar(DType dtype, const void* data) {
  return visit_dtype(dtype, [&](auto tag) -> Scalar {
    using T = typename decltype(tag)::type;
    const T value = *static_cast<const T*>(data);
    if constexpr (std::is_same_v<T, bool>) return Scalar(value);
    else if constexpr (std::is_integral_v<T>) return Scalar(static_cast<int64_t>(value));
    else return Scalar(static_cast<double>(value));
  });
}

PyObject* list_of(const Tensor& t, int dim, const char* data) {
  if (dim == t.dim()) return checked(wrap_scalar(read_scalar(t.dtype(), data)));
  const int64_t count = t.sizes()[dim],
                step = t.strides()[dim] * static_cast<int64_t>(t.item_size());
  Owned list(checked(PyList_New(static_cast<Py_ssize_t>(count))));
  for (int64_t i = 0; i < count; ++i) {
    PyList_SET_ITEM(list.get(), static_cast<Py_ssize_t>(i), list_of(t, dim + 1, data + i * step));
  }
  return list.release();
}

// --- to ---

struct Destination {
  std::optional<DType> dtype = std::nullopt;
  std::optional<Device> device = std::nullopt;
  bool non_blocking = false;
  bool copy = false;
};

Tensor moved(const Tensor& t, const Destination& to) {
  const DType dtype = to.dtype.value_or(t.dtype());
  const Device device = to.device.value_or(t.device());
  if (dtype == t.dtype() && device == t.device()) return to.copy ? clone(t) : t;
  const bool waits = (t.device().is_cuda() || device.is_cuda()) && !to.non_blocking;
  ReleaseGil release(waits ? ReleaseGil::kAlways : t.numel());
  // The narrower type crosses between devices.
  if (item_size(dtype) < t.item_size())
    return to_device(to_dtype(t, dtype), device, to.non_blocking);
  return to_dtype(to_device(t, device, to.non_blocking), dtype);
}

constexpr const char* kToText =
    "to(Tensor self, dtype | device | Tensor other, dtype=None, *, non_blocking=False, copy=False) "
    "-> Tensor";
constexpr Parameter kToParameters[] = {
    {"self", 'T', false, false},       {"first", 'x', true, false},
    {"second", 'x', true, false},      {"non_blocking", 'b', true, false},
    {"copy", 'b', true, false},        {"dtype", 'd', true, true},
    {"device", 'D', true, true},       {"other", 'T', true, true},
    {"memory_format", 'x', true, true}};
constexpr Signature kTo = {kToText, kToParameters, 9, 5};

void add_destination(Destination& to, PyObject* given) {
  if (is_tensor(given)) {
    to.dtype = unwrap(given).dtype();
    to.device = unwrap(given).device();
  } else if (is_dtype(given)) {
    to.dtype = dtype_of(given);
  } else if (is_device(given)) {
    to.device = existing_device_of(given);
  } else {
    fail(ErrorKind::kType, "to(): expected a dtype, a device or a Tensor, not ",
         Py_TYPE(given)->tp_name, "; the signature is ", kToText);
  }
}

PyObject* to(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* names) {
  return guarded([&]() -> PyObject* {
    Arguments a;
    if (!bind(kTo, self, args, nargs, names, a)) return nullptr;
    Destination destination;
    for (int i = 1; i <= 2; ++i) {
      if (a.given(i)) add_destination(destination, a.slot[i]);
    }
    if (a.given(3)) destination.non_blocking = boolean(a, 3, kTo);
    if (a.given(4)) destination.copy = boolean(a, 4, kTo);
    if (a.given(5)) destination.dtype = dtype(a, 5, kTo);
    if (a.given(6)) destination.device = device(a, 6, kTo);
    if (a.given(7)) add_destination(destination, a.slot[7]);
    return wrap(moved(unwrap(self), destination));
  });
}

PyObject* cpu(PyObject* self, PyObject*) {
  return guarded([&] { return wrap(moved(unwrap(self), {.device = Device{}})); });
}

PyObject* cuda(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* names) {
  return guarded([&]() -> PyObject* {
    static constexpr Parameter parameters[] = {{"self", 'T', false, false},
                                               {"device", 'D', true, false},
                                               {"non_blocking", 'b', true, false}};
    static constexpr Signature s = {"cuda(Tensor self, device=None, non_blocking=False) -> Tensor",
                                    parameters, 3, 3};
    Arguments a;
    if (!bind(s, self, args, nargs, names, a)) return nullptr;
    Device device{DeviceType::kCUDA, static_cast<uint8_t>(current_cuda_index())};
    if (a.given(1)) device = vt::py::device(a, 1, s);
    VT_CHECK(device.is_cuda(), kRuntime, "cuda(): expected a CUDA device, got ", device);
    check_device(device);
    return wrap(
        moved(unwrap(self), {.device = device, .non_blocking = a.given(2) && boolean(a, 2, s)}));
  });
}

template <DType kDType>
PyObject* cast(PyObject* self, PyObject*) {
  return guarded([&] { return wrap(moved(unwrap(self), {.dtype = kDType})); });
}

PyObject* type_as(PyObject* self, PyObject* other) {
  return guarded([&] {
    VT_CHECK(is_tensor(other), kType, "type_as(): expected a Tensor, not ",
             Py_TYPE(other)->tp_name);
    return wrap(
        moved(unwrap(self), {.dtype = unwrap(other).dtype(), .device = unwrap(other).device()}));
  });
}

PyObject* pin_memory(PyObject* self, PyObject*) {
  return guarded([&] {
    const Tensor& t = unwrap(self);
    VT_CHECK(t.device().is_cpu(), kRuntime, "pin_memory(): only CPU tensors can be pinned, got ",
             t);
    VT_CHECK(device_count(DeviceType::kCUDA) > 0, kRuntime,
             "pin_memory(): ", cuda_unavailable_reason());
    if (t.numel() == 0 || cuda_backend().is_pinned(t.data())) return wrap(t);
    const size_t bytes = t.bytes();
    void* memory = cuda_backend().allocate_pinned(bytes);
    auto storage = Storage::wrap(t.device(), memory, bytes,
                                 [=] { cuda_backend().deallocate_pinned(memory, bytes); });
    const Tensor pinned(Ref<TensorImpl>::adopt(
        new TensorImpl(std::move(storage), t.sizes(), row_major_strides(t.sizes()), 0, t.dtype())));
    raw::copy_(pinned, t, false);
    return wrap(pinned);
  });
}

PyObject* item_method(PyObject* self, PyObject*) {
  return guarded([&] { return wrap_scalar(item(unwrap(self))); });
}

PyObject* tolist_method(PyObject* self, PyObject*) {
  return guarded([&] { return tolist(unwrap(self)); });
}

}  // namespace

Scalar item(const Tensor& t) {
  VT_CHECK(t.numel() == 1, kRuntime, "a Tensor with ", t.numel(),
           " elements cannot be converted to Scalar: ", t);
  run_deferred();
  if (VT_LIKELY(t.device().is_cpu())) return read_scalar(t.dtype(), t.data());
  check_not_capturing("item", t.device(),
                      "Python would wait for a value that only a replay computes (float(), bool() "
                      "and if on a tensor do, too); keep it a tensor and read it after the step");
  alignas(8) char value[8];
  {
    ReleaseGil release(ReleaseGil::kAlways);
    copy_bytes(value, Device{}, t.data(), t.device(), t.item_size());
  }
  return read_scalar(t.dtype(), value);
}

PyObject* wrap_scalar(Scalar value) {
  if (value.is_float()) return wrap(value.to<double>());
  return value.is_bool() ? wrap(value.to<bool>()) : wrap(value.to<int64_t>());
}

PyObject* tolist(const Tensor& t) {
  run_deferred();
  const Tensor host = t.device().is_cpu() ? t : moved(alias(t), {.device = Device{}});
  return list_of(host, 0, host.data<char>());
}

PyMethodDef conversion_methods[] = {
    {"to", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(to)),
     METH_FASTCALL | METH_KEYWORDS,
     "to(dtype | device | other, dtype=None, *, non_blocking=False, copy=False) -> Tensor\n\n"
     "The tensor with another type or on another device; itself if nothing changes."},
    {"cpu", cpu, METH_NOARGS, "cpu() -> Tensor\n\nOn cpu:0."},
    {"cuda", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(cuda)),
     METH_FASTCALL | METH_KEYWORDS,
     "cuda(device=None, non_blocking=False) -> Tensor\n\nOn that GPU, or on the current one."},
    {"pin_memory", pin_memory, METH_NOARGS,
     "pin_memory() -> Tensor\n\nA copy in host memory that GPUs copy from directly."},
    {"float", cast<DType::kF32>, METH_NOARGS, "float() -> Tensor\n\nAs float32."},
    {"double", cast<DType::kF64>, METH_NOARGS, "double() -> Tensor\n\nAs float64."},
    {"half", cast<DType::kF16>, METH_NOARGS, "half() -> Tensor\n\nAs float16."},
    {"bfloat16", cast<DType::kBF16>, METH_NOARGS, "bfloat16() -> Tensor\n\nAs bfloat16."},
    {"long", cast<DType::kI64>, METH_NOARGS, "long() -> Tensor\n\nAs int64."},
    {"int", cast<DType::kI32>, METH_NOARGS, "int() -> Tensor\n\nAs int32."},
    {"char", cast<DType::kI8>, METH_NOARGS, "char() -> Tensor\n\nAs int8."},
    {"byte", cast<DType::kU8>, METH_NOARGS, "byte() -> Tensor\n\nAs uint8."},
    {"bool", cast<DType::kBool>, METH_NOARGS, "bool() -> Tensor\n\nAs bool: is it nonzero?"},
    {"type_as", type_as, METH_O, "type_as(other) -> Tensor\n\nWith the type and device of other."},
    {"item", item_method, METH_NOARGS,
     "item() -> bool | int | float\n\nThe value of a one-element tensor; waits for the device."},
    {"tolist", tolist_method, METH_NOARGS,
     "tolist() -> list\n\nThe values as nested lists; waits for the device."},
    {},
};

}  // namespace vt::py
