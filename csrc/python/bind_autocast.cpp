// The calling thread's autocast, from Python.
#include "python/bind_autocast.h"

#include "autograd/autocast.h"
#include "base/error.h"
#include "python/bind_dtype.h"

namespace pyb = pybind11;

namespace vt::py {
namespace {

DeviceType kind_from(const std::string& name) {
  if (name == "cpu") return DeviceType::kCPU;
  VT_CHECK(name == "cuda", kRuntime, "autocast: device_type '", name,
           "' is not supported; use 'cpu' or 'cuda', without an index");
  return DeviceType::kCUDA;
}

pyb::tuple mode_of(const std::string& kind) {
  const AutocastMode mode = autocast_mode(kind_from(kind));
  return pyb::make_tuple(mode.enabled, pyb::reinterpret_steal<pyb::object>(wrap_dtype(mode.dtype)));
}

void set_mode(const std::string& kind, bool enabled, const pyb::object& dtype) {
  VT_CHECK(is_dtype(dtype.ptr()), kType, "autocast: expected a dtype, got ",
           Py_TYPE(dtype.ptr())->tp_name);
  set_autocast_mode(kind_from(kind), {enabled, dtype_of(dtype.ptr())});
}

}  // namespace

void bind_autocast(pyb::module_& module) {
  module.def("autocasting", &autocasting, "Is autocast on in this thread, for some device?");
  module.def("autocast_mode", &mode_of, pyb::arg("device_type"),
             "Whether autocast is on in this thread, and its type.");
  module.def("set_autocast_mode", &set_mode, pyb::arg("device_type"), pyb::arg("enabled"),
             pyb::arg("dtype"), "Sets both for this thread.");
  module.def("enter_autocast_region", &enter_autocast_region, "One more region is open.");
  module.def("leave_autocast_region", &leave_autocast_region,
             "One fewer; with the last, what was cast is forgotten.");
  module.def("is_autocast_cache_enabled", &autocast_caches,
             "Are parameters cast once in a region?");
  module.def("set_autocast_cache_enabled", &set_autocast_caches, pyb::arg("enabled"),
             "Sets that for this thread.");
  module.def("clear_autocast_cache", &clear_autocast_cache,
             "Forgets what was cast in the open regions.");
}

}  // namespace vt::py
