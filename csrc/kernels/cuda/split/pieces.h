// Operands of tensor cores in three pieces and products of them within a warp. Note [Three pieces]
// says what the pieces are.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/async_copy.h"
#include "kernels/split_float.h"

namespace vt::cuda::split {

// Row and column operands of one m16n8k16 product, in three pieces.
struct LeftPieces {
  uint32_t x[3][4];
};
struct RightPieces {
  uint32_t x[3][2];
};

// Four numbers along k of one row or column, times a factor.
__device__ __forceinline__ void split_row(uint32_t (&pieces)[3][2], const float (&v)[4],
                                          float factor) {
  const SplitPair low = split_pair(v[0] * factor, v[1] * factor);
  const SplitPair high = split_pair(v[2] * factor, v[3] * factor);
#pragma unroll
  for (int p = 0; p < 3; ++p) {
    pieces[p][0] = low.piece[p];
    pieces[p][1] = high.piece[p];
  }
}
__device__ __forceinline__ LeftPieces split_left(const float (&upper)[4], const float (&lower)[4],
                                                 float factor) {
  uint32_t u[3][2], l[3][2];
  split_row(u, upper, factor);
  split_row(l, lower, factor);
  LeftPieces result;
#pragma unroll
  for (int p = 0; p < 3; ++p) {
    result.x[p][0] = u[p][0];
    result.x[p][1] = l[p][0];
    result.x[p][2] = u[p][1];
    result.x[p][3] = l[p][1];
  }
  return result;
}

// sum += left * right, on one piece of each.
__device__ __forceinline__ void multiply(float (&sum)[4], const uint32_t (&left)[4],
                                         const uint32_t (&right)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
}

// Adds the product of a 16 x 16 by kCount 16 x 8 to the totals. The six products of pieces meet in
// a sum of their own, small ones first, because the tensor cores cut bits off in each addition;
// that sum is then added with rounding to nearest.
template <int kCount>
__device__ __forceinline__ void multiply_add(float (*total)[4], const LeftPieces& left,
                                             const RightPieces* right) {
  constexpr int kLeft[] = {2, 0, 1, 1, 0, 0}, kRight[] = {0, 2, 1, 0, 1, 0};
  float sum[kCount][4] = {};
#pragma unroll
  for (int i = 0; i < 6; ++i)
#pragma unroll
    for (int n = 0; n < kCount; ++n) multiply(sum[n], left.x[kLeft[i]], right[n].x[kRight[i]]);
#pragma unroll
  for (int n = 0; n < kCount; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) total[n][i] += sum[n][i];
}

}  // namespace vt::cuda::split
