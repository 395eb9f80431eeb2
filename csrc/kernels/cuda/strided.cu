// Cutting plans for the strided kernels.
#include "kernels/cuda/strided.h"

#include <limits>

namespace vt::cuda {

void flatten_dense(ElementwisePlan& plan, const size_t* item_sizes) {
  plan.dense = false;
  plan.ndim = 1;
  plan.sizes[0] = plan.numel;
  for (int k = 0; k < plan.operands; ++k) plan.strides[k][0] = static_cast<int64_t>(item_sizes[k]);
}

bool fits_32bit(const ElementwisePlan& plan) {
  constexpr int64_t kLimit = std::numeric_limits<int32_t>::max();
  if (plan.numel > kLimit) return false;
  for (int k = 0; k < plan.operands; ++k) {
    int64_t extent = 0;
    for (int d = 0; d < plan.ndim; ++d) extent += (plan.sizes[d] - 1) * plan.strides[k][d];
    if (extent > kLimit) return false;
  }
  return true;
}

ElementwisePlan split_off_half(ElementwisePlan& plan) {
  int widest = 0;
  int64_t reach = -1;
  for (int d = 0; d < plan.ndim; ++d)
    for (int k = 0; k < plan.operands; ++k)
      if (const int64_t r = (plan.sizes[d] - 1) * std::max<int64_t>(plan.strides[k][d], 1);
          r > reach) {
        reach = r;
        widest = d;
      }
  ElementwisePlan second = plan;
  const int64_t rows = plan.numel / plan.sizes[widest];
  plan.sizes[widest] /= 2;
  second.sizes[widest] -= plan.sizes[widest];
  plan.numel = rows * plan.sizes[widest];
  second.numel -= plan.numel;
  for (int k = 0; k < plan.operands; ++k)
    second.data[k] += plan.sizes[widest] * plan.strides[k][widest];
  return second;
}

}  // namespace vt::cuda
