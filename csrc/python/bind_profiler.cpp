// The profiler and ranges for other profilers, as Python functions.
#include "python/bind_profiler.h"

#include <map>

#include "base/error.h"
#include "device/nvtx.h"
#include "device/profiler.h"
#include "python/gil.h"
#include "python/pybind_tensor.h"
#include "python/stack.h"

namespace pyb = pybind11;

namespace vt::py {
namespace {

using profiler::GpuEvent;
using profiler::HostEvent;

// The ranges that this thread opened: as the profiler knows them, and whether it tells NVTX, too.
struct OpenRange {
  uint64_t token;
  bool pushed;
};
thread_local std::vector<OpenRange> t_ranges;

size_t push(const std::string& name) {
  const bool pushed = !emits_ranges();
  if (pushed) nvtx_push(name.c_str());
  t_ranges.push_back({profiler::open(HostEvent::Kind::kRange, name), pushed});
  return t_ranges.size() - 1;
}

size_t pop() {
  VT_CHECK(!t_ranges.empty(), kRuntime, "nvtx.range_pop: this thread has no open range");
  if (t_ranges.back().pushed) nvtx_pop();
  profiler::close(t_ranges.back().token);
  t_ranges.pop_back();
  return t_ranges.size();
}

// "file:line function", innermost first; "" on threads of ours without frames.
std::string stack_text() {
  std::string result;
  for (const MemoryFrame& frame : python_frames())
    result += str(result.empty() ? "" : "\n", frame.file, ':', frame.line, ' ', frame.function);
  return result;
}

const char* name_of(HostEvent::Kind kind) {
  switch (kind) {
    case HostEvent::Kind::kOp: return "op";
    case HostEvent::Kind::kBackward: return "backward";
    case HostEvent::Kind::kRange: return "range";
    case HostEvent::Kind::kMemory: return "memory";
  }
  return "";
}

const char* name_of(GpuEvent::Kind kind) {
  switch (kind) {
    case GpuEvent::Kind::kKernel: return "kernel";
    case GpuEvent::Kind::kCopy: return "copy";
    case GpuEvent::Kind::kFill: return "fill";
  }
  return "";
}

// Names and stacks repeat: one Python object for each.
class Texts {
 public:
  pyb::str of(const std::string& text) {
    const auto [entry, fresh] = known_.try_emplace(text);
    if (fresh) entry->second = pyb::str(text);
    return entry->second;
  }

 private:
  std::map<std::string, pyb::str> known_;
};

pyb::dict to_python(const profiler::Recording& recording) {
  Texts texts;
  pyb::list host, gpu, calls;
  for (const HostEvent& e : recording.host) {
    pyb::dict event;
    event["kind"] = texts.of(name_of(e.kind));
    event["name"] = texts.of(e.name);
    event["start"] = e.start;
    event["end"] = e.end;
    event["id"] = e.id;
    event["parent"] = e.parent;
    event["thread"] = e.thread;
    if (!e.shapes.empty()) event["shapes"] = texts.of(e.shapes);
    if (!e.stack.empty()) event["stack"] = texts.of(e.stack);
    if (e.kind == HostEvent::Kind::kMemory) {
      event["device"] = texts.of(to_string(e.device));
      event["address"] = e.address;
      event["bytes"] = e.bytes;
      event["allocated"] = e.allocated;
      event["reserved"] = e.reserved;
    }
    host.append(event);
  }
  for (const GpuEvent& e : recording.gpu.events) {
    pyb::dict event;
    event["kind"] = texts.of(name_of(e.kind));
    event["name"] = texts.of(e.name);
    event["start"] = e.start;
    event["end"] = e.end;
    event["device"] = e.device;
    event["stream"] = e.stream;
    event["call"] = e.call;
    event["event"] = e.event;
    event["bytes"] = e.bytes;
    if (e.kind == GpuEvent::Kind::kKernel) {
      event["grid"] = pyb::make_tuple(e.grid[0], e.grid[1], e.grid[2]);
      event["block"] = pyb::make_tuple(e.block[0], e.block[1], e.block[2]);
      event["registers"] = e.registers;
      event["shared_bytes"] = e.shared_bytes;
    }
    gpu.append(event);
  }
  for (const profiler::GpuCall& e : recording.gpu.calls) {
    pyb::dict event;
    event["name"] = texts.of(e.name);
    event["start"] = e.start;
    event["end"] = e.end;
    event["thread"] = e.thread;
    event["call"] = e.call;
    event["event"] = e.event;
    calls.append(event);
  }
  pyb::dict result;
  result["start"] = recording.start;
  result["end"] = recording.end;
  result["host"] = host;
  result["gpu"] = gpu;
  result["calls"] = calls;
  result["dropped"] = recording.gpu.dropped;
  return result;
}

void start(bool host, bool gpu, bool shapes, bool memory, bool stack) {
  profiler::start({host, gpu, shapes, memory, stack ? &stack_text : nullptr});
  want_stacks(kProfilerStacks, stack);
}

pyb::dict stop() {
  profiler::Recording recording;
  {
    ReleaseGil release(ReleaseGil::kAlways);
    recording = profiler::stop();
  }
  want_stacks(kProfilerStacks, false);
  return to_python(recording);
}

}  // namespace

void bind_profiler(pyb::module_& module) {
  module.def("nvtx_push", &push, pyb::arg("name"), "Opens a range of this thread.");
  module.def("nvtx_pop", &pop, "Closes the last range of this thread.");
  module.def(
      "nvtx_mark", [](const std::string& name) { nvtx_mark(name.c_str()); }, pyb::arg("name"),
      "Marks a moment of this thread.");
  module.def(
      "nvtx_start", [](const std::string& name) { return nvtx_start(name.c_str()); },
      pyb::arg("name"), "Opens a range that any thread may close; its number.");
  module.def("nvtx_end", &nvtx_end, pyb::arg("range"), "Closes a range by its number.");
  module.def("emit_ranges", &emit_ranges, pyb::arg("on"), pyb::arg("shapes"),
             "Sets whether operations and ranges are ranges of NVTX, too.");
  module.def("begin_collection", &begin_collection,
             "Begins what a profiler of NVIDIA's collects that waits for it.");
  module.def("end_collection", &end_collection, "Ends that.");
  module.def("profiler_start", &start, pyb::arg("host"), pyb::arg("gpu"), pyb::arg("shapes"),
             pyb::arg("memory"), pyb::arg("stack"), "Starts recording.");
  module.def("profiler_stop", &stop, "Stops recording; what was seen.");
  module.def(
      "profiler_open",
      [](const std::string& name) { return profiler::open(HostEvent::Kind::kRange, name); },
      pyb::arg("name"), "Opens a named event of this thread.");
  module.def("profiler_close", &profiler::close, pyb::arg("token"), "Closes an event.");
}

}  // namespace vt::py
