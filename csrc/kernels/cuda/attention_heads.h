// What the kernels of fused attention read of an Attention, shared by those on plain and on tensor
// cores.
#pragma once
#include "kernels/cuda/launch.h"
#include "kernels/types.h"

namespace vt::cuda {

inline constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

// One tensor: where a token of a head of a batch lies.
template <class T>
struct Heads {
  T* data;
  int64_t batch_stride, head_stride, token_stride;
  explicit Heads(const HeadedTensor& t)
      : data(static_cast<T*>(t.data)),
        batch_stride(t.batch_stride),
        head_stride(t.head_stride),
        token_stride(t.token_stride) {}
  __device__ T* row(int batch, int head, int64_t token) const {
    return data + batch * batch_stride + head * head_stride + token * token_stride;
  }
};

template <class T>
struct AttentionInputs {
  Heads<T> q, k, v, out, dout, dq, dk, dv;
  float* stats;
  float* delta;  // [batch, heads, queries]
  int heads, kv_heads, queries, keys, width;
  float scale;
  bool causal;
  AttentionInputs(const Attention& a, float* delta_in)
      : q(a.q),
        k(a.k),
        v(a.v),
        out(a.out),
        dout(HeadedTensor{const_cast<void*>(a.dout), a.out.batch_stride, a.out.head_stride,
                          a.out.token_stride}),
        dq(a.dq),
        dk(a.dk),
        dv(a.dv),
        stats(static_cast<float*>(a.stats)),
        delta(delta_in),
        heads(static_cast<int>(a.heads)),
        kv_heads(static_cast<int>(a.kv_heads)),
        queries(static_cast<int>(a.queries)),
        keys(static_cast<int>(a.keys)),
        width(static_cast<int>(a.width)),
        scale(static_cast<float>(a.scale)),
        causal(a.causal) {}
};

// The sum or maximum over the four lanes that share a row of a product on tensor cores.
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
__device__ __forceinline__ float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

// What scores are taken from before they become powers of 2. Minus infinity, the highest score of a
// query that has seen nothing yet, would make NaN of such scores.
__device__ __forceinline__ float finite_base(float highest) {
  return highest == -INFINITY ? 0.f : highest;
}
// Of a sum of powers of 2: 0 for a query that saw nothing.
__device__ __forceinline__ float inverse_of(float total) { return total == 0 ? 0.f : 1 / total; }
// The query's entry of Attention::stats.
__device__ __forceinline__ float log_of(float highest, float total) {
  return total == 0 ? INFINITY : (highest + log2f(total)) * kLn2;
}

}  // namespace vt::cuda
