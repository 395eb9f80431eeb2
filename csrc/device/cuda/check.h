// The check around every call of the CUDA runtime: a failure becomes a vt::Error with the call, the
// device and the reason.
#pragma once
#include <cuda_runtime_api.h>

#include "base/error.h"

namespace vt::cuda {

// Throws: OutOfMemory for an allocation, Runtime for the rest. Clears the runtime's last error
// first.
[[noreturn]] void fail_call(const char* call, cudaError_t code);
// The same for the start of a kernel of `op`: throws a LaunchError, to which the operator adds its
// operands.
[[noreturn]] void fail_launch(const char* op, cudaError_t code);

// True where no later call of this process can succeed on the device: a kernel faulted and its
// context is lost.
bool is_sticky(cudaError_t code);

}  // namespace vt::cuda

#define VT_CUDA(call)                                                                         \
  do {                                                                                        \
    const cudaError_t vt_cuda_code = (call);                                                  \
    if (VT_UNLIKELY(vt_cuda_code != cudaSuccess)) ::vt::cuda::fail_call(#call, vt_cuda_code); \
  } while (0)
