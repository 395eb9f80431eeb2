// A build without CUDA has no GPU to trace.
#include "device/gpu_trace.h"

#include "base/error.h"
#include "device/backend.h"

namespace vt::profiler {

void start_gpu_trace() {
  fail(ErrorKind::kRuntime, "profiler: the GPU cannot be traced: ", cuda_unavailable_reason());
}
GpuTrace stop_gpu_trace() { return {}; }
void enter_gpu_event(uint64_t) {}
void leave_gpu_event() {}

}  // namespace vt::profiler
