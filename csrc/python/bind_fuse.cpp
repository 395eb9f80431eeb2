// Starting and ending a recording from Python, and what it says about itself.
#include "python/bind_fuse.h"

#include <pybind11/stl.h>

#include "fuse/compile.h"
#include "fuse/recorder.h"

namespace pyb = pybind11;

namespace vt::py {
namespace {

unsigned bits_of_passes(const std::vector<std::string>& names) {
  unsigned bits = 0;
  for (const std::string& name : names) {
    bool found = false;
    for (const fuse::PassInfo& info : fuse::passes())
      if (name == info.name) {
        bits |= info.pass;
        found = true;
      }
    VT_CHECK(found, kValue, "fuse: there is no pass named '", name, "'");
  }
  return bits;
}

pyb::dict dict_of(const fuse::FusedKernel& kernel) {
  pyb::dict result;
  result["operators"] = kernel.operators;
  result["elements"] = kernel.elements;
  result["steps"] = kernel.steps;
  result["loads"] = kernel.loads;
  result["stores"] = kernel.stores;
  result["launches"] = kernel.launches;
  result["bytes_saved"] = kernel.bytes_saved;
  return result;
}

pyb::dict dict_of(const fuse::Report& report) {
  pyb::dict result;
  result["recorded"] = report.recorded;
  result["passed_by"] = report.passed_by;
  result["launched"] = report.launched;
  result["dropped"] = report.dropped;
  result["not_stored"] = report.not_stored;
  result["bytes_saved"] = report.bytes_saved;
  result["flushes"] = report.flushes;
  result["rewrites"] = report.rewrites;
  result["alone"] = report.alone;
  result["failure"] = report.failure;
  pyb::list kernels;
  for (const auto& [name, kernel] : report.kernels) kernels.append(dict_of(kernel));
  result["kernels"] = kernels;
  const fuse::CompileStats stats = fuse::compile_stats();
  result["compiled"] = stats.compiled;
  result["from_disk"] = stats.from_disk;
  result["compile_seconds"] = stats.seconds;
  return result;
}

}  // namespace

void bind_fuse(pyb::module_& module) {
  module.def(
      "fuse_passes",
      [] {
        pyb::dict result;
        for (const fuse::PassInfo& info : fuse::passes()) result[info.name] = info.doc;
        return result;
      },
      "The passes of the step compiler and what each does.");
  module.def(
      "fuse_begin",
      [](const std::vector<std::string>& passes) {
        fuse::recorder().begin(bits_of_passes(passes));
      },
      pyb::arg("passes"), "Puts off the operators of this thread.");
  module.def(
      "fuse_end", [] { return dict_of(fuse::recorder().end()); },
      "Runs what is pending and stops; what was done.");
  module.def(
      "fuse_unavailable_reason", [] { return fuse::compiler_unavailable_reason(); },
      "Why kernels cannot be compiled at run time; '' if they can.");
  module.def(
      "fuse_compile",
      [](const std::string& source, const std::string& architecture) {
        return pyb::bytes(fuse::compile(source, architecture));
      },
      pyb::arg("source"), pyb::arg("architecture"),
      "The machine code of a generated kernel for an architecture such as 'sm_90'.");
  module.def(
      "fuse_sources", [] { return fuse::recorder().sources(); },
      "The generated source of each kernel since the recording began.");
}

}  // namespace vt::py
