// Products with GELU, its gradient or slope or a residual sum in their kernel, and large ones
// without, made here of CUTLASS's parts: 16-bit floats on GPUs of architecture 9.0.
#pragma once
#include "kernels/cuda/launch.h"

namespace vt::cuda {

// The whole of `gemm`, column sums too, on the current stream. False, and nothing done, where it
// has no such epilogue, where lines are not whole or not aligned, where cuBLASLt is faster, or
// where this build has no such kernels. The answer depends on shapes, strides and alignment only.
bool gelu_product(const Gemm& gemm);
// The same for products without GELU: those with a bias or an addend, and those that are the
// gradient of a layer's input.
bool linear_product(const Gemm& gemm);

// Where joins_cross_entropy(gemm): out[r, :] = exp2(log2(e) (a b)[r, :] + shifts[r]), and the sums
// of its rows, of what is not rounded yet, by tiles of columns: sums[tile * stride + r]. Both have
// `stride` floats, or `stride` for each tile, of which the last ones may belong to no row.
struct RowSums {
  int64_t tiles, stride;
};
RowSums row_sums_of(const Gemm& gemm);
void exponential_product(const Queue& queue, const Gemm& gemm, const float* shifts, float* sums);

}  // namespace vt::cuda
