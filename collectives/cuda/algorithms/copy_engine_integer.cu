// The adding kernels of the integer types for the copy engines.
#include "collectives/cuda/algorithms/choose.cuh"
#include "collectives/cuda/algorithms/copy_engine.cuh"

namespace vt::collectives::gpu::copy_engine {

const void* integer_kernel(DType dtype, ReduceOp op, int ranks) {
  return VT_CHOOSE_INTEGER_KERNEL(all_reduce, dtype, op, ranks);
}

const void* integer_kernel_aside(DType dtype, ReduceOp op, int ranks) {
  return VT_CHOOSE_INTEGER_KERNEL(add_aside, dtype, op, ranks);
}

}  // namespace vt::collectives::gpu::copy_engine
