// What the GPUs did: kernels, copies and fills with their times, and the calls that queued them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vt::profiler {

struct GpuEvent {
  enum class Kind { kKernel, kCopy, kFill };
  Kind kind = Kind::kKernel;
  std::string name;
  int64_t start = 0, end = 0;  // nanoseconds of the profiler's clock
  uint32_t device = 0, stream = 0;
  uint32_t call = 0;   // the call that queued it
  uint64_t event = 0;  // the host event that was open then, or 0
  size_t bytes = 0;    // of a copy or fill
  int grid[3] = {}, block[3] = {}, registers = 0, shared_bytes = 0;
};

// A call of the CUDA runtime or driver.
struct GpuCall {
  std::string name;
  int64_t start = 0, end = 0;
  uint32_t thread = 0;  // the system's number
  uint32_t call = 0;
  uint64_t event = 0;
};

struct GpuTrace {
  std::vector<GpuEvent> events;
  std::vector<GpuCall> calls;
  size_t dropped = 0;  // records that the tracer had no room for
};

// Throws a RuntimeError that says why where GPUs cannot be traced.
void start_gpu_trace();
// Waits for the GPUs.
GpuTrace stop_gpu_trace();

// What the calling thread queues from here to `leave` belongs to the host event.
void enter_gpu_event(uint64_t event);
void leave_gpu_event();

int64_t profiler_clock();  // nanoseconds

}  // namespace vt::profiler
