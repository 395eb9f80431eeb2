// Recording what a program does: operations of the host by thread, changes of memory, and, through
// gpu_trace.h, what the GPU did for them. Off, a place that would record costs one load and one
// branch that is always taken the same way.
#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "base/device.h"
#include "base/macros.h"
#include "device/gpu_trace.h"

namespace vt::profiler {

// Times are nanoseconds of one clock that only goes forward.
struct HostEvent {
  enum class Kind { kOp, kBackward, kRange, kMemory };
  Kind kind = Kind::kOp;
  std::string name;
  int64_t start = 0, end = 0;  // equal for a change of memory
  uint64_t id = 0;             // from 1; what the GPU did refers to it
  uint64_t parent = 0;         // the event that was open on the thread, or 0
  uint32_t thread = 0;         // from 0, in order of their first event
  std::string shapes;          // "[[2, 3], []]"; "" where not recorded
  std::string stack;           // "file:line function", innermost first, by '\n'
  // Of a change of memory: what was taken (or, negative, given back), and what is held then.
  Device device;
  uint64_t address = 0;
  int64_t bytes = 0, allocated = 0, reserved = 0;
};

struct Options {
  bool host = true, gpu = false, shapes = false, memory = false;
  std::string (*stack)() = nullptr;  // the calling thread's stack, for events that want one
};

struct Recording {
  int64_t start = 0, end = 0;
  std::vector<HostEvent> host;
  GpuTrace gpu;
};

// One recording at a time: starting a second is an error. `stop` waits for the GPU and hands out
// what was seen since.
void start(const Options& options);
Recording stop();

namespace detail {
enum : uint32_t { kHost = 1, kShapes = 2, kMemory = 4 };
// Not through the table of imported data: it is read before every operator.
__attribute__((visibility("hidden"))) extern std::atomic<uint32_t> g_wanted;
}  // namespace detail

inline bool recording() {
  return VT_UNLIKELY(detail::g_wanted.load(std::memory_order_relaxed) & detail::kHost);
}
inline bool wants_shapes() {
  return detail::g_wanted.load(std::memory_order_relaxed) & detail::kShapes;
}
inline bool wants_memory() {
  return VT_UNLIKELY(detail::g_wanted.load(std::memory_order_relaxed) & detail::kMemory);
}

// Opens an event of the calling thread. Returns what `close` wants; 0 when nothing records.
uint64_t open(HostEvent::Kind kind, std::string name, std::string shapes = {});
// Closes it, and those that were opened in it and left open. An event of an earlier recording is
// ignored.
void close(uint64_t token);

void note_memory(Device device, const void* data, int64_t bytes, int64_t allocated,
                 int64_t reserved);

// An event as long as the scope.
class Scope {
 public:
  Scope(HostEvent::Kind kind, const char* name) {
    if (recording()) token_ = open(kind, name);
  }
  ~Scope() {
    if (VT_UNLIKELY(token_ != 0)) close(token_);
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  uint64_t token_ = 0;
};

}  // namespace vt::profiler
