// How a product leaves the kernel: scale, what was there, bias, GELU.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

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

// GELU (tanh form) and its slope, with (1 + tanh(u)) / 2 as 1 / (1 + exp(-2u)): a third of the
// instructions, and nothing is lost where tanh is near -1 or 1. They count here, as the tensor
// cores wait until the results are stored.
struct GeluGate {
  float exponent, power, gate;
  __device__ explicit GeluGate(float x) {
    constexpr float kScale = -2.302208198f;  // -2 sqrt(2 / pi) / ln 2
    exponent = kScale * fmaf(0.044715f * x, x * x, x);
    power = exp2f(exponent);
    gate = __fdividef(1.0f, 1.0f + power);
  }
};
__device__ __forceinline__ float gelu(float x) { return x * GeluGate(x).gate; }
__device__ __forceinline__ float gelu_slope(float x) {
  constexpr float kScale = 1.595769122f;  // 2 sqrt(2 / pi)
  const GeluGate g(x);
  const float change = g.exponent < 100 ? g.power * g.gate * g.gate : 0;  // gate * (1 - gate)
  return fmaf(x * change, kScale * fmaf(3 * 0.044715f * x, x, 1.0f), g.gate);
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
      for (int i = 0; i < 4; ++i) x[i] = gelu(x[i]);
    } else {
      float at[4];
      read_four(at, aux, s.lines, count);
#pragma unroll
      for (int i = 0; i < 4; ++i) x[i] *= gelu_slope(at[i]);
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
