// The ring kernels of the float types.
#include "collectives/cuda/algorithms/cute/ring.cuh"

namespace vt::collectives::gpu::ring {

const char* unavailable() { return ""; }

const void* float_kernel(DType dtype, ReduceOp op, int) {
  switch (dtype) {
    case DType::kF16: return choose<Half>(op);
    case DType::kBF16: return choose<BFloat16>(op);
    case DType::kF32: return choose<float>(op);
    case DType::kF64: return choose<double>(op);
    default: return nullptr;
  }
}

}  // namespace vt::collectives::gpu::ring
