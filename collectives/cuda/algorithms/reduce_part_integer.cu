// The kernels that reduce parts of the integer types.
#include "collectives/cuda/algorithms/reduce_part.cuh"

namespace vt::collectives::gpu::parts {

const void* reduce_integer_kernel(DType dtype, ReduceOp op, int ranks) {
  return VT_CHOOSE_INTEGER_KERNEL(direct_reduction, dtype, op, ranks);
}

const void* reduce_by_scratch_integer_kernel(DType dtype, ReduceOp op, int ranks) {
  return VT_CHOOSE_INTEGER_KERNEL(scratch_reduction, dtype, op, ranks);
}

const void* reduce_by_packets_integer_kernel(DType dtype, ReduceOp op, int ranks) {
  return VT_CHOOSE_INTEGER_KERNEL(packet_reduction, dtype, op, ranks);
}

const void* reduce_by_lines_integer_kernel(DType dtype, ReduceOp op, int ranks) {
  return VT_CHOOSE_INTEGER_KERNEL(line_reduction, dtype, op, ranks);
}

}  // namespace vt::collectives::gpu::parts
