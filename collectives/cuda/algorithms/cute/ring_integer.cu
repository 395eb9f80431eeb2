// The ring kernels of the integer types.
#include "collectives/cuda/algorithms/cute/ring.cuh"

namespace vt::collectives::gpu::ring {

const void* integer_kernel(DType dtype, ReduceOp op, int) {
  switch (dtype) {
    case DType::kU8: return choose<uint8_t>(op);
    case DType::kI8: return choose<int8_t>(op);
    case DType::kI32: return choose<int32_t>(op);
    case DType::kI64: return choose<int64_t>(op);
    default: return nullptr;
  }
}

}  // namespace vt::collectives::gpu::ring
