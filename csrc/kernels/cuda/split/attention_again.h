// Rows of attention once more, without splitting: what a block does when a result is not finite. An
// infinity has no pieces, so it would be NaN in all that it is part of, where it may well have a
// weight of zero.
#pragma once
#include "kernels/cuda/attention_heads.h"

namespace vt::cuda::split {

// One warp at a row, two features a lane.
inline constexpr int kMostFeatures = 2 * kWarp;

struct LaneFeatures {
  float x[2];

  __device__ __forceinline__ LaneFeatures(const float* row, int width) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int i = 0; i < 2; ++i) x[i] = row && lane + i * kWarp < width ? row[lane + i * kWarp] : 0;
  }
  __device__ __forceinline__ void scale(float factor) { x[0] *= factor, x[1] *= factor; }
  __device__ __forceinline__ void add(float factor, const LaneFeatures& other) {
    x[0] = fmaf(factor, other.x[0], x[0]), x[1] = fmaf(factor, other.x[1], x[1]);
  }
  // The inner product, for all lanes.
  __device__ __forceinline__ float dot(const LaneFeatures& other) const {
    float sum = fmaf(x[1], other.x[1], x[0] * other.x[0]);
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    return sum;
  }
  __device__ __forceinline__ void store(float* row, int width) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if (lane + i * kWarp < width) row[lane + i * kWarp] = x[i];
  }
};

// f(row) for the block's rows, each by one warp.
template <class F>
__device__ __forceinline__ void each_row(int first, int rows, int count, F&& f) {
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  for (int row = first + static_cast<int>(threadIdx.x) / kWarp; row < min(first + rows, count);
       row += warps)
    f(row);
}

// Output and statistics of queries [first, first + rows).
__device__ __noinline__ inline void attend_again(const AttentionInputs<float> in, int batch,
                                                 int head, int first, int rows) {
  const int kv = head / (in.heads / in.kv_heads);
  each_row(first, rows, in.queries, [&](int row) {
    LaneFeatures q(in.q.row(batch, head, row), in.width), sum(nullptr, 0);
    q.scale(in.scale * kLog2E);
    float highest = -INFINITY, total = 0;
    const int end = in.causal ? min(row + 1, in.keys) : in.keys;
    for (int key = 0; key < end; ++key) {
      const float s = q.dot(LaneFeatures(in.k.row(batch, kv, key), in.width));
      const float top = fmaxf(highest, s), base = finite_base(top);
      if (top > highest) {
        const float factor = exp2f(highest - base);
        sum.scale(factor);
        total *= factor;
        highest = top;
      }
      const float p = exp2f(s - base);
      total += p;
      sum.add(p, LaneFeatures(in.v.row(batch, kv, key), in.width));
    }
    sum.scale(inverse_of(total));
    sum.store(in.out.row(batch, head, row), in.width);
    if (threadIdx.x % kWarp == 0)
      in.stats[(int64_t{batch} * in.heads + head) * in.queries + row] = log_of(highest, total);
  });
}

// dq of queries [first, first + rows), for which delta is there.
__device__ __noinline__ inline void query_gradient_again(const AttentionInputs<float> in, int batch,
                                                         int head, int first, int rows) {
  const int kv = head / (in.heads / in.kv_heads);
  const int64_t places = (int64_t{batch} * in.heads + head) * in.queries;
  each_row(first, rows, in.queries, [&](int row) {
    LaneFeatures q(in.q.row(batch, head, row), in.width), dq(nullptr, 0);
    const LaneFeatures dout(in.dout.row(batch, head, row), in.width);
    q.scale(in.scale * kLog2E);
    const float shift = in.stats[places + row] * kLog2E, delta = in.delta[places + row];
    const int end = in.causal ? min(row + 1, in.keys) : in.keys;
    for (int key = 0; key < end; ++key) {
      const LaneFeatures k(in.k.row(batch, kv, key), in.width);
      const float p = exp2f(q.dot(k) - shift);
      const float dp = dout.dot(LaneFeatures(in.v.row(batch, kv, key), in.width));
      dq.add(p * (dp - delta), k);
    }
    dq.scale(in.scale);
    dq.store(in.dq.row(batch, head, row), in.width);
  });
}

// dk and dv of keys [first, first + rows).
__device__ __noinline__ inline void key_gradient_again(const AttentionInputs<float> in, int batch,
                                                       int kv, int first, int rows) {
  const int group = in.heads / in.kv_heads;
  each_row(first, rows, in.keys, [&](int row) {
    LaneFeatures k(in.k.row(batch, kv, row), in.width), dk(nullptr, 0), dv(nullptr, 0);
    const LaneFeatures v(in.v.row(batch, kv, row), in.width);
    k.scale(in.scale * kLog2E);
    for (int head = kv * group; head < (kv + 1) * group; ++head) {
      const int64_t places = (int64_t{batch} * in.heads + head) * in.queries;
      for (int query = in.causal ? row : 0; query < in.queries; ++query) {
        const LaneFeatures q(in.q.row(batch, head, query), in.width),
            dout(in.dout.row(batch, head, query), in.width);
        const float p = exp2f(k.dot(q) - in.stats[places + query] * kLog2E);
        dv.add(p, dout);
        dk.add(p * (v.dot(dout) - in.delta[places + query]), q);
      }
    }
    dk.scale(in.scale);
    dk.store(in.dk.row(batch, kv, row), in.width);
    dv.store(in.dv.row(batch, kv, row), in.width);
  });
}

}  // namespace vt::cuda::split
