// The packet kernels of the integer types.
#include "collectives/cuda/algorithms/packet.cuh"

namespace vt::collectives::gpu {

const void* packet_integer_kernel(DType dtype, ReduceOp op) {
  switch (dtype) {
    case DType::kU8: return choose_packet<uint8_t>(op);
    case DType::kI8: return choose_packet<int8_t>(op);
    case DType::kI32: return choose_packet<int32_t>(op);
    case DType::kI64: return choose_packet<int64_t>(op);
    default: return nullptr;
  }
}

}  // namespace vt::collectives::gpu
