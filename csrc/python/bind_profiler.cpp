// Ranges for profilers, as Python functions.
#include "python/bind_profiler.h"

#include "base/error.h"
#include "device/nvtx.h"

namespace pyb = pybind11;

namespace vt::py {
namespace {

thread_local int t_ranges = 0;  // open on this thread

int push(const std::string& name) {
  nvtx_push(name.c_str());
  return t_ranges++;
}

int pop() {
  VT_CHECK(t_ranges > 0, kRuntime, "nvtx.range_pop: this thread has no open range");
  nvtx_pop();
  return --t_ranges;
}

}  // namespace

void bind_profiler(pyb::module_& module) {
  module.def("nvtx_push", &push, pyb::arg("name"), "Opens a range of this thread.");
  module.def("nvtx_pop", &pop, "Closes the last range of this thread.");
  module.def(
      "nvtx_mark", [](const std::string& name) { nvtx_mark(name.c_str()); }, pyb::arg("name"),
      "Marks a moment of this thread.");
}

}  // namespace vt::py
