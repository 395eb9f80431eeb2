// Sorting rows that fit a block.
#pragma once
#include "kernels/cuda/launch.h"
#include "tensor/tensor.h"

namespace vt::cuda {

// Sorts rows that fit a block, stable, as sort() of kernels.yaml. False: they are too long.
bool sort_short_rows(const Queue& queue, const Tensor& values, const Tensor& indices,
                     const Tensor& x, bool descending);

}  // namespace vt::cuda
