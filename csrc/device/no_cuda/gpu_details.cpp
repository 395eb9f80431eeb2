// A build without CUDA has no GPU to tell about.
#include "device/gpu_details.h"

#include "base/error.h"
#include "device/backend.h"

namespace vt {
namespace {

[[noreturn]] void unavailable() { fail(ErrorKind::kRuntime, "cuda: ", cuda_unavailable_reason()); }

}  // namespace

GpuDetails gpu_details(int) { unavailable(); }
StreamPriorities stream_priorities(int) { unavailable(); }
CudaBuild cuda_build() { return {}; }

}  // namespace vt
