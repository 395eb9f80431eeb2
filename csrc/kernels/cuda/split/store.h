// How a product leaves the kernel: scale, what was there, bias, GELU.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/pointwise_unary.h"
#include "kernels/types.h"

namespace vt::cuda::split {

struct Store {
  float* out;
  const float* bias;  // n, or null
  float* aux;         // as in Gemm
  int64_t out_stride, out_batch, aux_stride;
  float alpha, beta;
  GemmEpilogue epilogue;
  bool lines;  // can four neighbours be moved at once everywhere?
};

__device__ __forceinline__ void read_four(float (&x)[4], const float* from, bool line, int count) {
  if (line) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    x[0] = four.x, x[1] = four.y, x[2] = four.z, x[3] = four.w;
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] = i < count ? from[i] : 0;
}
__device__ __forceinline__ void write_four(float* to, const float (&x)[4], bool line, int count) {
  if (line) {
    *reinterpret_cast<float4*>(to) = {x[0], x[1], x[2], x[3]};
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (i < count) to[i] = x[i];
}

// Stores four neighbouring sums, as many of them as there are columns.
__device__ __forceinline__ void store_four(const Store& s, int64_t batch, int row, int column,
                                           int n, const float (&sums)[4]) {
  const int count = n - column;
  float* const out = s.out + batch * s.out_batch + row * s.out_stride + column;
  float x[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] = s.alpha * sums[i];
  if (s.beta != 0) {
    float old[4];
    read_four(old, out, s.lines, count);
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = fmaf(s.beta, old[i], x[i]);
  }
  if (s.bias) {
    float bias[4];
    read_four(bias, s.bias + column, s.lines, count);
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] += bias[i];
  }
  if (s.epilogue != GemmEpilogue::kNone) {
    float* const aux = s.aux + row * s.aux_stride + column;
    if (s.epilogue == GemmEpilogue::kGelu) {
      if (s.aux) write_four(aux, x, s.lines, count);
#pragma unroll
      for (int i = 0; i < 4; ++i) x[i] = functor::GeluTanh<float>{}(x[i]);
    } else {
      float at[4];
      read_four(at, aux, s.lines, count);
#pragma unroll
      for (int i = 0; i < 4; ++i) x[i] = functor::GeluTanhBackward<float>{}(x[i], at[i]);
    }
  }
  write_four(out, x, s.lines, count);
}

// Where the sums of one part lie: rows are padded to whole fours.
__host__ __device__ __forceinline__ int64_t part_place(int m, int n, int64_t part, int row,
                                                       int column) {
  const int64_t padded = (int64_t{n} + 3) / 4 * 4;
  return (part * m + row) * padded + column;
}

}  // namespace vt::cuda::split
