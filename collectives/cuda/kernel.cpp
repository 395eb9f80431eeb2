// The table of kernels.
#include "collectives/cuda/kernel.h"

#include "base/error.h"

namespace vt::collectives::gpu {

const void* two_shot_kernel(DType dtype, ReduceOp op, int ranks) {
  const void* kernel = two_shot_float_kernel(dtype, op, ranks);
  if (!kernel) kernel = two_shot_integer_kernel(dtype, op, ranks);
  VT_CHECK(kernel, kType, "all_reduce: not implemented for ", name(dtype));
  return kernel;
}

const void* packet_kernel(DType dtype, ReduceOp op) {
  const void* kernel = packet_float_kernel(dtype, op);
  if (!kernel) kernel = packet_integer_kernel(dtype, op);
  VT_CHECK(kernel, kType, "all_reduce: not implemented for ", name(dtype));
  return kernel;
}

void for_each_kernel(void (*f)(const void* kernel)) {
  f(barrier_kernel());
  f(broadcast_kernel());
  for (int t = 0; t < kDTypeCount; ++t) {
    const auto dtype = static_cast<DType>(t);
    if (dtype == DType::kBool) continue;
    for (int o = 0; o <= static_cast<int>(ReduceOp::kMax); ++o) {
      const auto op = static_cast<ReduceOp>(o);
      if (op == ReduceOp::kAvg) continue;  // the kernel of kSum
      f(packet_kernel(dtype, op));
      for (int ranks : {2, 4, 8})
        if (ranks == 8 || op == ReduceOp::kSum) f(two_shot_kernel(dtype, op, ranks));
    }
  }
}

}  // namespace vt::collectives::gpu
