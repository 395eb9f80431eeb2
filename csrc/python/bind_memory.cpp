// What a program asks and sets about the memory of devices.
#include <pybind11/pybind11.h>

#include <map>

#include "device/backend.h"
#include "device/caching_allocator.h"
#include "python/bind_runtime.h"
#include "python/gil.h"
#include "python/pybind_tensor.h"
#include "python/stack.h"

namespace pyb = pybind11;

namespace vt::py {
namespace {

using Action = MemoryEvent::Action;

DeviceAllocator& allocator_of(Device device) {
  return backend(device).device_allocator(device.index);
}

pyb::dict memory_stats(Device device) {
  const MemoryStats stats = backend(device).memory_stats(device.index);
  pyb::dict result;
  result["allocated"] = stats.allocated;
  result["reserved"] = stats.reserved;
  result["peak_allocated"] = stats.peak_allocated;
  result["peak_reserved"] = stats.peak_reserved;
  result["allocations"] = stats.allocations;
  result["system_allocations"] = stats.system_allocations;
  return result;
}

pyb::dict memory_counters(Device device) {
  pyb::dict result;
  for (const auto& [name, value] : allocator_of(device).counters()) result[name.c_str()] = value;
  return result;
}

// Null on threads of ours without frames.
MemoryStack python_stack() {
  std::vector<MemoryFrame> frames = python_frames();
  if (frames.empty()) return nullptr;
  return std::make_shared<const std::vector<MemoryFrame>>(std::move(frames));
}

const char* name_of(Action action) {
  switch (action) {
    case Action::kAllocate: return "alloc";
    case Action::kFreeRequested: return "free_requested";
    case Action::kFreeCompleted: return "free_completed";
    case Action::kSegmentTake: return "segment_alloc";
    case Action::kSegmentGiveBack: return "segment_free";
    case Action::kSegmentMap: return "segment_map";
    case Action::kSegmentUnmap: return "segment_unmap";
    case Action::kOutOfMemory: return "oom";
  }
  return "";
}

const char* name_of(BlockInfo::State state) {
  switch (state) {
    case BlockInfo::State::kLive: return "active_allocated";
    case BlockInfo::State::kPending: return "active_pending_free";
    case BlockInfo::State::kFree: return "inactive";
  }
  return "";
}

// Frames as dictionaries; one list for each stack, however many events share it.
class Frames {
 public:
  pyb::list of(const MemoryStack& stack) {
    const auto found = known_.find(stack.get());
    if (found != known_.end()) return found->second;
    pyb::list result;
    if (stack)
      for (const MemoryFrame& each : *stack) {
        pyb::dict frame;
        frame["filename"] = each.file;
        frame["line"] = each.line;
        frame["name"] = each.function;
        result.append(frame);
      }
    return known_.emplace(stack.get(), result).first->second;
  }

 private:
  std::map<const void*, pyb::list> known_;
};

uintptr_t number(void* stream) { return reinterpret_cast<uintptr_t>(stream); }

pyb::dict describe(const SegmentInfo& segment, int device, Frames& frames) {
  size_t total = 0, allocated = 0, active = 0, requested = 0;
  pyb::list blocks;
  for (const BlockInfo& block : segment.blocks) {
    total += block.size;
    if (block.state == BlockInfo::State::kLive) allocated += block.size;
    if (block.state != BlockInfo::State::kFree) active += block.size;
    requested += block.requested;
    pyb::dict entry;
    entry["address"] = block.address;
    entry["size"] = block.size;
    entry["requested_size"] = block.requested;
    entry["state"] = name_of(block.state);
    entry["frames"] = frames.of(block.stack);
    blocks.append(entry);
  }
  pyb::dict result;
  result["device"] = device;
  result["address"] = segment.address;
  result["total_size"] = total;
  result["allocated_size"] = allocated;
  result["active_size"] = active;
  result["requested_size"] = requested;
  result["stream"] = number(segment.stream);
  result["segment_type"] = segment.small ? "small" : "large";
  result["segment_pool_id"] = pyb::make_tuple(0, segment.pool);
  result["is_expandable"] = segment.expandable;
  result["frames"] = pyb::list();
  result["blocks"] = blocks;
  return result;
}

pyb::dict describe(const MemoryEvent& event, Frames& frames) {
  pyb::dict result;
  result["action"] = name_of(event.action);
  result[event.action == Action::kOutOfMemory ? "device_free" : "addr"] = event.address;
  result["size"] = event.size;
  result["stream"] = number(event.stream);
  result["time_us"] = event.time_us;
  result["compile_context"] = "";
  result["user_metadata"] = "";
  result["frames"] = frames.of(event.stack);
  return result;
}

// (segments, events) of one device.
pyb::tuple memory_snapshot(Device device) {
  const MemorySnapshot snapshot = allocator_of(device).snapshot();
  Frames frames;
  pyb::list segments, events;
  for (const SegmentInfo& each : snapshot.segments)
    segments.append(describe(each, device.index, frames));
  for (const MemoryEvent& each : snapshot.events) events.append(describe(each, frames));
  return pyb::make_tuple(segments, events);
}

}  // namespace

void bind_memory(pyb::module_& module) {
  module.def("memory_stats", &memory_stats, pyb::arg("device"),
             "What the allocator of a device holds and held.");
  module.def("memory_counters", &memory_counters, pyb::arg("device"),
             "All counters of a GPU's allocator, under PyTorch's names.");
  module.def(
      "reset_peak_memory", [](Device device) { backend(device).reset_peak_memory(device.index); },
      pyb::arg("device"), "Peaks start again from what is held now.");
  module.def(
      "reset_memory_sums", [](Device device) { allocator_of(device).reset_sums(); },
      pyb::arg("device"), "Sums of what was allocated and freed start again from 0.");
  module.def(
      "empty_cache",
      [](Device device) {
        ReleaseGil release(ReleaseGil::kAlways);
        backend(device).empty_cache(device.index);
      },
      pyb::arg("device"), "Gives memory that no tensor uses back to the system.");
  module.def(
      "set_memory_fraction",
      [](Device device, double fraction) { allocator_of(device).set_limit(fraction); },
      pyb::arg("device"), pyb::arg("fraction"),
      "Reserves at most that part of a GPU's memory from now on.");
  module.def(
      "memory_fraction", [](Device device) { return allocator_of(device).limit(); },
      pyb::arg("device"), "What part of a GPU's memory may be reserved.");
  module.def("memory_snapshot", &memory_snapshot, pyb::arg("device"),
             "(segments, events) of a GPU as dictionaries.");
  module.def(
      "record_memory_history",
      [](Device device, size_t capacity, bool stacks) {
        allocator_of(device).record_history(capacity, stacks ? &python_stack : nullptr);
        if (stacks) want_stacks(kMemoryStacks, true);  // for as long as the process lives
      },
      pyb::arg("device"), pyb::arg("capacity"), pyb::arg("stacks"),
      "Keeps the last events of a GPU's allocator.");
  module.def(
      "stop_memory_history", [](Device device) { allocator_of(device).stop_history(); },
      pyb::arg("device"), "Drops the events and keeps no more.");
  module.def(
      "free_memory",
      [](Device device) {
        const Backend::FreeMemory found = backend(device).free_memory(device.index);
        return pyb::make_tuple(found.free, found.total);
      },
      pyb::arg("device"), "(free, total) bytes of a device, whoever holds the rest.");
  module.def(
      "can_access_peer",
      [](Device device, Device other) {
        VT_CHECK(device.type == other.type, kRuntime, "can_access_peer: ", device, " and ", other,
                 " are of different kinds");
        return backend(device).can_access_peer(device.index, other.index);
      },
      pyb::arg("device"), pyb::arg("other"), "May kernels of one use the other's memory?");
}

}  // namespace vt::py
