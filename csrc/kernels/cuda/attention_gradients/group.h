// What a group of four warps computes of a tile: scores, gradients of scores, sums.
#pragma once
#include "kernels/cuda/attention_gradients/form.h"
#include "kernels/cuda/attention_gradients/pipeline.h"
#include "kernels/cuda/attention_gradients/wgmma.h"
#include "kernels/cuda/launch.h"

namespace vt::cuda::attention_gradients {

// 2^x; 0 where that is below the smallest normal number.
__device__ __forceinline__ float power_of_two(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
// Two numbers in one register, the first in its lower half.
template <class T>
__device__ __forceinline__ uint32_t join(float first, float second) {
  uint32_t both;
  if constexpr (std::is_same_v<T, BFloat16>)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  else asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
}

// Left operands of products in registers: 16 along k each.
template <int kCount>
using Lefts = uint32_t[kCount][4];

// Of 64 kept rows, warp w has 16w to 16w + 15. Of a product with 8j columns, lane (g, t) has rows
// g and g + 8, columns 8j + 2t and 8j + 2t + 1: numbers 4j to 4j + 3.
template <class F>
struct Group {
  using T = typename F::T;
  static constexpr int D = F::kWidth, N = F::kColumns;

  const Memory<F>& m;
  const Job& job;
  // The same for all lanes, and the compiler can tell.
  const int warp_of_block = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
  const int group = warp_of_block / 4, warp = warp_of_block % 4;
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t4 = lane % 4;
  // Of the item at hand:
  int first;                                  // row
  uint32_t kept;                              // address of the group's kept rows
  float2 shifts, deltas;                      // of queries g and g + 8
  Lefts<F::kHeld ? D / 16 : 1> left1, left2;  // kept rows
  // Gradients of queries, or of keys and values.
  float sum1[D / 2], sum2[F::kQueries ? 1 : D / 2];

  __device__ Group(const Memory<F>& memory, const Job& job_in) : m(memory), job(job_in) {}

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < D / 2; ++i) {
      sum1[i] = 0;
      if constexpr (!F::kQueries) sum2[i] = 0;
    }
  }

  // What shifts and deltas of the thread's queries are made of: logs of sums, and two lines of
  // eight outputs for every 64.
  float logs[2];
  uint4 outs[2][F::kQueries ? D / 32 : 1];
  // Asks for it.
  __device__ void load_rows_of(const Item& item) {
    const int row = item.tile * F::kRows + group * 64 + warp * 16 + g;
    const T* const from = static_cast<const T*>(job.out) + item.batch * job.batch_stride +
                          item.head * job.head_stride + t4 * 8;
    const float* const stats =
        job.stats + (int64_t{item.batch} * job.heads + item.head) * job.queries;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const bool there = row + i * 8 < job.queries;
      logs[i] = there ? stats[row + i * 8] : INFINITY;
#pragma unroll
      for (int j = 0; j < D / 32; ++j)
        outs[i][j] =
            there
                ? *reinterpret_cast<const uint4*>(from + (row + i * 8) * job.token_stride + j * 32)
                : uint4{};
    }
  }
  // Shifts and deltas out of that and of kept gradients of outputs.
  __device__ void make_rows(const Item& item) {
    const int row = first + warp * 16 + g;
    const int64_t at = (int64_t{item.batch} * job.heads + item.head) * job.padded + row;
    float shift[2], delta[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float sum = 0;
#pragma unroll
      for (int j = 0; j < D / 32; ++j) {
        const uint4 x =
            read_line(kept + F::kKeptBytes + (j / 2 * F::kRows + warp * 16 + g + i * 8) * 128 +
                      ((j % 2 * 4 + t4) ^ g) * 16);
        const auto &a = reinterpret_cast<const Pack<T, 8>&>(outs[i][j]),
                   &b = reinterpret_cast<const Pack<T, 8>&>(x);
#pragma unroll
        for (int c = 0; c < 8; ++c)
          sum = fmaf(static_cast<float>(a.v[c]), static_cast<float>(b.v[c]), sum);
      }
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      shift[i] = logs[i] * 1.4426950408889634f;
      delta[i] = sum;
      if (t4 == 0 && row + i * 8 < job.padded) {
        job.shifts[at + i * 8] = shift[i];
        job.deltas[at + i * 8] = sum;
      }
    }
    shifts = make_float2(shift[0], shift[1]);
    deltas = make_float2(delta[0], delta[1]);
  }

  // Kept rows of a buffer, 16 columns after the other, become left operands.
  __device__ void hold_left(Lefts<F::kHeld ? D / 16 : 1>& left, uint32_t rows) {
    if constexpr (F::kHeld) {
#pragma unroll
      for (int k = 0; k < D / 16; ++k) {
        const int row = warp * 16 + lane % 16, line = (k % 4 * 2 + lane / 16) ^ (row % 8);
        read_matrices(left[k], rows + (k / 4 * F::kRows + row) * 128 + line * 16);
      }
    }
  }

  // s = kept rows times streamed rows.
  __device__ void start_scores(float (&s)[N / 2], const Lefts<F::kHeld ? D / 16 : 1>& left,
                               uint32_t kept_rows, uint32_t streamed) {
    const uint64_t b = operand(streamed, 0), a = operand(kept_rows, 0);
    start_score<false>(s, left[0], a, b);
#pragma unroll
    for (int k = 1; k < D / 16; ++k)
      start_score<true>(s, left[F::kHeld ? k : 0], a + (k / 4 * F::kRows * 128 + k % 4 * 32) / 16,
                        b + (k / 4 * N * 128 + k % 4 * 32) / 16);
  }
  template <bool kKeep>
  __device__ void start_score(float (&s)[N / 2], const uint32_t (&left)[4], uint64_t a,
                              uint64_t b) {
    if constexpr (F::kHeld) multiply<T, Right::kRowsAreColumns, kKeep>(s, left, b);
    else multiply<T, kKeep>(s, a, b);
  }
  // sum += left times streamed rows along k.
  __device__ void start_sum(float (&sum)[D / 2], const Lefts<N / 16>& left, uint32_t streamed) {
    const uint64_t b = operand(streamed, N * 128);
#pragma unroll
    for (int k = 0; k < N / 16; ++k)
      multiply<T, Right::kRowsAreAlongK, true>(sum, left[k], b + k * 2048 / 16);
  }

  // No weight where the query does not see the key. Queries past the end have infinite shifts; keys
  // past the end count zeros, but of weights that may be infinite.
  __device__ void mask(float (&s)[N / 2], int t) const {
    const int row = first + warp * 16 + g, column = t * N + 2 * t4;
    if constexpr (F::kQueries) {
      const int count = job.causal ? min(first + 1, job.keys) : job.keys;  // that all rows see
      if (t * N + N <= count) return;
      const int keys[] = {job.causal ? min(row + 1, job.keys) : job.keys,
                          job.causal ? min(row + 9, job.keys) : job.keys};
#pragma unroll
      for (int i = 0; i < N / 2; ++i)
        s[i] = column + i / 4 * 8 + i % 2 < keys[i / 2 % 2] ? s[i] : -INFINITY;
    } else {
      if (!job.causal || t * N >= first + 63) return;
#pragma unroll
      for (int i = 0; i < N / 2; ++i)
        s[i] = row + i / 2 % 2 * 8 <= column + i / 4 * 8 + i % 2 ? s[i] : -INFINITY;
    }
  }
  // Scores s of tile t become weights, and p these as left operands.
  __device__ void weigh(Lefts<F::kQueries ? 1 : N / 16>& p, float (&s)[N / 2], int t,
                        int stage) const {
    mask(s, t);
    const uint32_t rows = m.streamed_rows_at(stage) + t4 * 8;
#pragma unroll
    for (int j = 0; j < N / 8; ++j) {
      const float2 from = F::kQueries ? shifts : read_pair(rows + j * 32);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const bool second = F::kQueries ? i / 2 : i % 2;
        s[4 * j + i] = power_of_two(fmaf(s[4 * j + i], job.factor, -(second ? from.y : from.x)));
      }
      if constexpr (!F::kQueries) put_left(p, s, j);
    }
  }
  // ds = gradients of scores, given weights and their gradients, d.
  __device__ void differentiate(Lefts<N / 16>& ds, const float (&weights)[N / 2],
                                const float (&d)[N / 2], int stage) const {
    const uint32_t rows = m.streamed_rows_at(stage) + t4 * 8 + N * 4;
    float gradients[N / 2];
#pragma unroll
    for (int j = 0; j < N / 8; ++j) {
      const float2 less = F::kQueries ? deltas : read_pair(rows + j * 32);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const bool second = F::kQueries ? i / 2 : i % 2;
        gradients[4 * j + i] = weights[4 * j + i] * (d[4 * j + i] - (second ? less.y : less.x));
      }
      put_left(ds, gradients, j);
    }
  }
  // Columns 8j to 8j + 7 of a product as part of a left operand.
  __device__ static void put_left(Lefts<N / 16>& to, const float (&x)[N / 2], int j) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
      to[j / 2][j % 2 * 2 + half] = join<T>(x[4 * j + 2 * half], x[4 * j + 2 * half + 1]);
  }

  // Sums times a factor go where kept rows were.
  __device__ void put(uint32_t to, const float (&sum)[D / 2], float factor) const {
#pragma unroll
    for (int j = 0; j < D / 8; ++j)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = warp * 16 + g + half * 8, i = 4 * j + 2 * half;
        write(to + (j / 8 * F::kRows + row) * 128 + (j % 8 ^ g) * 16 + t4 * 4,
              join<T>(sum[i] * factor, sum[i + 1] * factor));
      }
  }

  // Sums of the columns of the warp's rows times a factor; the group's rows begin at `start`, there
  // are `count`. Of the eight lanes that have the same columns each ends up with one in eight.
  __device__ void put_columns(float* to, const float (&sum)[D / 2], float factor, int start,
                              int count) const {
    float x[D / 4];
    const int row = start + warp * 16 + g;
#pragma unroll
    for (int i = 0; i < D / 4; ++i) {
      const int at = i / 2 * 4 + i % 2;
      x[i] = (row < count ? sum[at] : 0) + (row + 8 < count ? sum[at + 2] : 0);
    }
#pragma unroll
    for (int half = 4; half > 0; half /= 2) {
      const bool upper = g & half;
#pragma unroll
      for (int i = 0; i < D / 4; ++i) {
        if (i % 8 >= half) continue;
        const float other = __shfl_xor_sync(0xffffffffu, upper ? x[i] : x[i + half], half * 4);
        x[i] = (upper ? x[i + half] : x[i]) + other;
      }
    }
#pragma unroll
    for (int i = 0; i < D / 32; ++i) to[i * 32 + g / 2 * 8 + t4 * 2 + g % 2] = x[i * 8] * factor;
  }
};

}  // namespace vt::cuda::attention_gradients
