// Finding the kernel for a type, a reduction and a number of ranks, alike for all algorithms.
#pragma once
#include "base/error.h"
#include "collectives/collective.h"

namespace vt::collectives::gpu {

using FindKernel = const void* (*)(DType dtype, ReduceOp op, int ranks);

inline const void* of_any_group(FindKernel floats, FindKernel integers, DType dtype, ReduceOp op,
                                int ranks) {
  const void* kernel = floats(dtype, op, ranks);
  if (!kernel) kernel = integers(dtype, op, ranks);
  VT_CHECK(kernel, kType, "collective: no reduction of ", name(dtype));
  return kernel;
}

// Calls f for all kernels that `find` can return; some more than once.
inline void for_each_reduction(FindKernel find, void (*f)(const void* kernel)) {
  for (int t = 0; t < kDTypeCount; ++t) {
    const auto dtype = static_cast<DType>(t);
    if (dtype == DType::kBool) continue;
    for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kProd, ReduceOp::kMin, ReduceOp::kMax})
      for (int ranks : {2, 4, 8}) f(find(dtype, op, ranks));  // kAvg takes the kernel of kSum
  }
}

}  // namespace vt::collectives::gpu
