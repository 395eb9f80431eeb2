// Warps that add up the columns of gradients on their way out, beside those that compute.
#pragma once
#include "kernels/cuda/attention_gradients/form.h"
#include "kernels/cuda/attention_gradients/pipeline.h"
#include "kernels/cuda/launch.h"

namespace vt::cuda::attention_gradients {

// All of the producer's group but its own. Sums in the groups that compute cost 4% of the time.
inline constexpr int kSumWarps = 3;

// A warp has 64 columns of all rows of the block's items: two rows at a time, four columns of a
// lane.
template <class F>
__device__ void add_columns(const Memory<F>& m, const Job& job) {
  using T = typename F::T;
  constexpr int kParts = F::kWidth / 64, kAll = kParts * (F::kQueries ? 1 : 2);
  const int lane = static_cast<int>(threadIdx.x) % 32, below = lane / 16;
  int n = 0;
  for (int round = 0; Item::any(job, round); ++round) {
    const Item item(job, F::kQueries, round);
    if (item.none) continue;
    await_phase(m.made(n % 2), n / 2 % 2);
    const int rows = (F::kQueries ? job.queries : job.keys) - item.tile * F::kRows - below;
    const int64_t at = (int64_t{item.batch} * job.order.tiles + item.tile) *
                           (F::kQueries ? job.heads : job.kv_heads) +
                       item.head;
    for (int i = static_cast<int>(threadIdx.x) / 32 % 4 - 1; i < kAll; i += kSumWarps) {
      // Lines of 16 bytes are swizzled: from one row to the next but one by 2.
      const uint32_t from = m.kept_at(n % 2) + (i * F::kRows + below) * 128 +
                            (lane / 2 % 8 ^ below) * 16 + lane % 2 * 8;
      float sum[4] = {};
#pragma unroll 1
      for (int row = 0; row < F::kRows; row += 8) {
        float2 x[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) x[j] = read_pair((from + (row + 2 * j) * 128) ^ j * 32);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          if (row + 2 * j >= rows) continue;
          const auto& each = reinterpret_cast<const Pack<T, 4>&>(x[j]);
#pragma unroll
          for (int c = 0; c < 4; ++c) sum[c] += static_cast<float>(each.v[c]);
        }
      }
#pragma unroll
      for (int c = 0; c < 4; ++c) sum[c] += __shfl_xor_sync(0xffffffffu, sum[c], 16);
      float* const to = job.sums[i / kParts] + at * F::kWidth + i % kParts * 64 + lane % 16 * 4;
      if (below == 0) *reinterpret_cast<float4*>(to) = make_float4(sum[0], sum[1], sum[2], sum[3]);
    }
    __syncwarp();
    if (lane == 0) arrive(m.kept_empty(n % 2));
    ++n;
  }
}

}  // namespace vt::cuda::attention_gradients
