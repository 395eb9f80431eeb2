// The two-shot kernels of the integer types.
#include "collectives/cuda/algorithms/two_shot.cuh"

namespace vt::collectives::gpu::two_shot {

const void* integer_kernel(DType dtype, ReduceOp op, int ranks) {
  switch (dtype) {
    case DType::kU8: return choose<uint8_t>(op, ranks);
    case DType::kI8: return choose<int8_t>(op, ranks);
    case DType::kI32: return choose<int32_t>(op, ranks);
    case DType::kI64: return choose<int64_t>(op, ranks);
    default: return nullptr;
  }
}

}  // namespace vt::collectives::gpu::two_shot
