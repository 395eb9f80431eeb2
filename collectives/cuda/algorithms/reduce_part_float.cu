// The kernels that reduce parts of the float types.
#include "collectives/cuda/algorithms/reduce_part.cuh"

namespace vt::collectives::gpu::parts {

const void* reduce_float_kernel(DType dtype, ReduceOp op, int ranks) {
  return VT_CHOOSE_FLOAT_KERNEL(direct_reduction, dtype, op, ranks);
}

const void* reduce_by_scratch_float_kernel(DType dtype, ReduceOp op, int ranks) {
  return VT_CHOOSE_FLOAT_KERNEL(scratch_reduction, dtype, op, ranks);
}

const void* reduce_by_packets_float_kernel(DType dtype, ReduceOp op, int ranks) {
  return VT_CHOOSE_FLOAT_KERNEL(packet_reduction, dtype, op, ranks);
}

const void* reduce_by_lines_float_kernel(DType dtype, ReduceOp op, int ranks) {
  return VT_CHOOSE_FLOAT_KERNEL(line_reduction, dtype, op, ranks);
}

}  // namespace vt::collectives::gpu::parts
