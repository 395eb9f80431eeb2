// The two-shot kernels of the float types.
#include "collectives/cuda/algorithms/two_shot.cuh"

namespace vt::collectives::gpu::two_shot {

const void* float_kernel(DType dtype, ReduceOp op, int ranks) {
  switch (dtype) {
    case DType::kF16: return choose<Half>(op, ranks);
    case DType::kBF16: return choose<BFloat16>(op, ranks);
    case DType::kF32: return choose<float>(op, ranks);
    case DType::kF64: return choose<double>(op, ranks);
    default: return nullptr;
  }
}

}  // namespace vt::collectives::gpu::two_shot
