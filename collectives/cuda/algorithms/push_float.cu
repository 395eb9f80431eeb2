// The push kernels of the float types.
#include "collectives/cuda/algorithms/choose.cuh"
#include "collectives/cuda/algorithms/push.cuh"

namespace vt::collectives::gpu::push {

const void* float_kernel(DType dtype, ReduceOp op, int ranks) {
  return VT_CHOOSE_FLOAT_KERNEL(all_reduce, dtype, op, ranks);
}

}  // namespace vt::collectives::gpu::push
