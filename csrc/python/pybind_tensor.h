// How pybind11 functions take and return tensors, dtypes and devices; for cold calls.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "python/bind_device.h"
#include "python/bind_dtype.h"
#include "python/tensor_type.h"

namespace pybind11::detail {

template <>
struct type_caster<vt::Tensor> {
  PYBIND11_TYPE_CASTER(vt::Tensor, const_name("Tensor"));
  bool load(handle source, bool) {
    if (source.is_none()) return true;  // an undefined tensor
    if (!vt::py::is_tensor(source.ptr())) return false;
    value = vt::py::unwrap(source.ptr());
    return true;
  }
  static handle cast(const vt::Tensor& t, return_value_policy, handle) { return vt::py::wrap(t); }
};

template <>
struct type_caster<vt::DType> {
  PYBIND11_TYPE_CASTER(vt::DType, const_name("dtype"));
  bool load(handle source, bool) {
    if (!vt::py::is_dtype(source.ptr())) return false;
    value = vt::py::dtype_of(source.ptr());
    return true;
  }
  static handle cast(vt::DType t, return_value_policy, handle) { return vt::py::wrap_dtype(t); }
};

// Takes whatever names a device; checks that it exists.
template <>
struct type_caster<vt::Device> {
  PYBIND11_TYPE_CASTER(vt::Device, const_name("device"));
  bool load(handle source, bool) {
    if (!vt::py::is_device(source.ptr())) return false;
    value = vt::py::existing_device_of(source.ptr());
    return true;
  }
  static handle cast(vt::Device device, return_value_policy, handle) {
    return vt::py::wrap_device(device);
  }
};

}  // namespace pybind11::detail
