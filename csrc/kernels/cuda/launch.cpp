// Launching kernels that may start before the one before them has ended.
#include "kernels/cuda/launch.h"

#include "base/env.h"

namespace vt::cuda {

cudaError_t launch_awaiting(int index, const void* kernel, dim3 grid, dim3 block, void** arguments,
                            size_t shared_bytes, cudaStream_t stream) {
  static const bool wanted = env::early_starts();
  if (!wanted || properties(index).compute_major < 9)
    return cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, stream);
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t how{};
  how.gridDim = grid;
  how.blockDim = block;
  how.dynamicSmemBytes = shared_bytes;
  how.stream = stream;
  how.attrs = &early;
  how.numAttrs = 1;
  return cudaLaunchKernelExC(&how, kernel, arguments);
}

}  // namespace vt::cuda
