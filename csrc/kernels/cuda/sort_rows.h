// Sorting rows that fit a block.
#pragma once
#include "kernels/cuda/launch.h"
#include "tensor/tensor.h"

namespace vt::cuda {

inline constexpr int64_t kLongestBlockRow = 4096;

// Stable, as sort() of kernels.yaml; rows of at most kLongestBlockRow elements.
void sort_short_rows(const Queue& queue, const Tensor& values, const Tensor& indices,
                     const Tensor& x, bool descending);

}  // namespace vt::cuda
