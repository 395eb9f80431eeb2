// The packet kernels of the float types.
#include "collectives/cuda/algorithms/packet.cuh"

namespace vt::collectives::gpu {

const void* packet_float_kernel(DType dtype, ReduceOp op) {
  switch (dtype) {
    case DType::kF16: return choose_packet<Half>(op);
    case DType::kBF16: return choose_packet<BFloat16>(op);
    case DType::kF32: return choose_packet<float>(op);
    case DType::kF64: return choose_packet<double>(op);
    default: return nullptr;
  }
}

}  // namespace vt::collectives::gpu
