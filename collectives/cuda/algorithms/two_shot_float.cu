// The two-shot kernels of the float types.
#include "collectives/cuda/algorithms/two_shot.cuh"

namespace vt::collectives::gpu {

const void* two_shot_float_kernel(DType dtype, ReduceOp op, int ranks) {
  switch (dtype) {
    case DType::kF16: return choose_two_shot<Half>(op, ranks);
    case DType::kBF16: return choose_two_shot<BFloat16>(op, ranks);
    case DType::kF32: return choose_two_shot<float>(op, ranks);
    case DType::kF64: return choose_two_shot<double>(op, ranks);
    default: return nullptr;
  }
}

}  // namespace vt::collectives::gpu
