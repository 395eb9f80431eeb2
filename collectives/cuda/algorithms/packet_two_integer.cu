// The two-phase packet kernels of the integer types.
#include "collectives/cuda/algorithms/choose.cuh"
#include "collectives/cuda/algorithms/packet_two.cuh"

namespace vt::collectives::gpu::packets2 {

const void* integer_kernel(DType dtype, ReduceOp op, int ranks) {
  return VT_CHOOSE_INTEGER_KERNEL(all_reduce, dtype, op, ranks);
}

}  // namespace vt::collectives::gpu::packets2
