// The one-shot kernels of the float types.
#include "collectives/cuda/algorithms/choose.cuh"
#include "collectives/cuda/algorithms/one_shot.cuh"

namespace vt::collectives::gpu::one_shot {

const void* float_kernel(DType dtype, ReduceOp op, int ranks) {
  return VT_CHOOSE_FLOAT_KERNEL(all_reduce, dtype, op, ranks);
}

}  // namespace vt::collectives::gpu::one_shot
