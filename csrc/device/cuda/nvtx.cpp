// NVTX of the CUDA toolkit: headers alone, the profiler injects the rest.
#include "device/nvtx.h"

#include <cuda_profiler_api.h>
#include <nvtx3/nvToolsExt.h>

#include "device/cuda/check.h"
#include "device/cuda/device.h"

namespace vt {

void nvtx_push(const char* name) { (void)nvtxRangePushA(name); }
void nvtx_pop() { (void)nvtxRangePop(); }
void nvtx_mark(const char* name) { nvtxMarkA(name); }
uint64_t nvtx_start(const char* name) { return nvtxRangeStartA(name); }
void nvtx_end(uint64_t range) { nvtxRangeEnd(range); }

void begin_collection() {
  if (cuda::count() > 0) VT_CUDA(cudaProfilerStart());
}
void end_collection() {
  if (cuda::count() > 0) VT_CUDA(cudaProfilerStop());
}

}  // namespace vt
