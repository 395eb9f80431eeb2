// The two-shot kernels of the integer types.
#include "collectives/cuda/algorithms/two_shot.cuh"

namespace vt::collectives::gpu {

const void* two_shot_integer_kernel(DType dtype, ReduceOp op, int ranks) {
  switch (dtype) {
    case DType::kU8: return choose_two_shot<uint8_t>(op, ranks);
    case DType::kI8: return choose_two_shot<int8_t>(op, ranks);
    case DType::kI32: return choose_two_shot<int32_t>(op, ranks);
    case DType::kI64: return choose_two_shot<int64_t>(op, ranks);
    default: return nullptr;
  }
}

}  // namespace vt::collectives::gpu
