// The kernel that multiplies float32 matrices on tensor cores, each number in three pieces.
#pragma once
#include "kernels/cuda/split/store.h"
#include "kernels/cuda/split/tile.h"

namespace vt::cuda::split {

// Two by two warps, each with kM by kN groups of 32 rows and 32 columns.
template <int kM, int kN, int kBlocks>
struct Shape {
  static constexpr int kGroupsM = kM, kGroupsN = kN;
  static constexpr int kRows = 64 * kM, kColumns = 64 * kN;
  static constexpr int kThreads = 128;
  static constexpr int kBlocksPerMultiprocessor = kBlocks;
  static constexpr int kStages = 4;
  static constexpr int kSharedBytes = (kRows + kColumns) * kStep * 4 * kStages;
};
using Tile128x128 = Shape<2, 2, 2>;
using Tile128x64 = Shape<2, 1, 3>;
using Tile64x64 = Shape<1, 1, 4>;

// Everything a launch needs. Strides in elements; a_stride and b_stride step along the dimension
// that is not contiguous.
struct Product {
  const float *a, *b;
  int64_t a_stride, b_stride, a_batch, b_batch;
  int m, n, k;
  int tiles_n;  // a row of tiles: blockIdx.x walks them, columns first
  int parts;    // of k, blockIdx.y
  int part;     // how long one is: a multiple of kStep
  float* sums;  // [batch, parts, m, padded n] where parts > 1
  Store store;
};

// The same product in float32 arithmetic, for numbers that the pieces do not hold: infinities, NaN
// and magnitudes near the end of the range. Slow, and rare.
template <class S, Order kA, Order kB>
__device__ void multiply_plainly(float (&total)[S::kGroupsM * 2][S::kGroupsN * 4][4],
                                 const float* a, const float* b, const Product& p, int row,
                                 int column, int count) {
  const int64_t a_row = kA == Order::kInner ? p.a_stride : 1;
  const int64_t b_row = kB == Order::kInner ? p.b_stride : 1;
  const int64_t a_k = kA == Order::kInner ? 1 : p.a_stride;
  const int64_t b_k = kB == Order::kInner ? 1 : p.b_stride;
#pragma unroll
  for (int mt = 0; mt < S::kGroupsM * 2; ++mt)
#pragma unroll
    for (int nt = 0; nt < S::kGroupsN * 4; ++nt)
#pragma unroll
      for (int i = 0; i < 4; ++i) total[mt][nt][i] = 0;
#pragma unroll 1
  for (int k = 0; k < count; ++k) {
    float right[S::kGroupsN * 4][2];
#pragma unroll
    for (int nt = 0; nt < S::kGroupsN * 4; ++nt)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int at = column + nt / 4 * 32 + 4 * i + nt % 4;
        right[nt][i] = at < p.n ? b[at * b_row + k * b_k] : 0;
      }
#pragma unroll
    for (int mt = 0; mt < S::kGroupsM * 2; ++mt)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int at = row + mt / 2 * 32 + mt % 2 * 2 + half;
        const float left = at < p.m ? a[at * a_row + k * a_k] : 0;
#pragma unroll
        for (int nt = 0; nt < S::kGroupsN * 4; ++nt)
#pragma unroll
          for (int i = 0; i < 2; ++i)
            total[mt][nt][half * 2 + i] = fmaf(left, right[nt][i], total[mt][nt][half * 2 + i]);
      }
  }
}

template <class S, Order kA, Order kB>
__global__ void __launch_bounds__(S::kThreads, S::kBlocksPerMultiprocessor)
    split_product_kernel(const Product p) {
  using TileA = Tile<S::kRows, kA>;
  using TileB = Tile<S::kColumns, kB>;
  constexpr int kM = S::kGroupsM, kN = S::kGroupsN, kStages = S::kStages;
  extern __shared__ float4 shared[];
  float4* const tiles_a = shared;
  float4* const tiles_b = shared + kStages * TileA::kLines;

  const int batch = static_cast<int>(blockIdx.z);
  const int first_row = static_cast<int>(blockIdx.x) / p.tiles_n * S::kRows;
  const int first_column = static_cast<int>(blockIdx.x) % p.tiles_n * S::kColumns;
  const int first_k = static_cast<int>(blockIdx.y) * p.part;
  const int count = min(p.part, p.k - first_k);
  const float* const a =
      p.a + batch * p.a_batch + first_k * (kA == Order::kInner ? int64_t{1} : p.a_stride);
  const float* const b =
      p.b + batch * p.b_batch + first_k * (kB == Order::kInner ? int64_t{1} : p.b_stride);

  Loader<S::kRows, kA, S::kThreads> load_a(a, p.a_stride, first_row, p.m);
  Loader<S::kColumns, kB, S::kThreads> load_b(b, p.b_stride, first_column, p.n);
  const int steps = (count + kStep - 1) / kStep;
  const auto load = [&](int step) {
    if (step < steps) {
      const int stage = step % kStages;
      load_a.load(tiles_a + stage * TileA::kLines, count - step * kStep);
      load_b.load(tiles_b + stage * TileB::kLines, count - step * kStep);
    }
    end_copies();
  };
#pragma unroll
  for (int step = 0; step < kStages - 1; ++step) load(step);

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4, t = lane % 4;
  const int group_m = warp / 2 * kM, group_n = warp % 2 * kN;
  float total[kM * 2][kN * 4][4] = {};
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    await_copies<kStages - 2>();
    __syncthreads();
    load(step + kStages - 1);
    const float4* const tile_a = tiles_a + step % kStages * TileA::kLines;
    const float4* const tile_b = tiles_b + step % kStages * TileB::kLines;
    RightPieces right[kN * 4];
#pragma unroll
    for (int group = 0; group < kN; ++group) {
      float v[4][4];
      TileB::fetch(v, tile_b, group_n + group, g, t);
#pragma unroll
      for (int i = 0; i < 4; ++i) split_row(right[group * 4 + i].x, v[i], kSplitScale);
    }
#pragma unroll
    for (int group = 0; group < kM; ++group) {
      float v[4][4];
      TileA::fetch(v, tile_a, group_m + group, g, t);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const LeftPieces left = split_left(v[half * 2], v[half * 2 + 1], kSplitScale);
#pragma unroll
        for (int four = 0; four < kN; ++four)
          multiply_add<4>(&total[group * 2 + half][four * 4], left, right + four * 4);
      }
    }
  }

  bool finite = true;
#pragma unroll
  for (int mt = 0; mt < kM * 2; ++mt)
#pragma unroll
    for (int nt = 0; nt < kN * 4; ++nt)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        finite = finite && isfinite(total[mt][nt][i]);
        total[mt][nt][i] *= 1 / (kSplitScale * kSplitScale);
      }
  const int row = first_row + group_m * 32 + 4 * g, column = first_column + group_n * 32 + 8 * t;
  if (__syncthreads_or(!finite)) multiply_plainly<S, kA, kB>(total, a, b, p, row, column, count);

#pragma unroll
  for (int mt = 0; mt < kM * 2; ++mt)
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int nt = 0; nt < kN * 4; nt += 4)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int at = half * 2 + i;
          const float x[4] = {total[mt][nt][at], total[mt][nt + 1][at], total[mt][nt + 2][at],
                              total[mt][nt + 3][at]};
          const int to_row = row + mt / 2 * 32 + mt % 2 * 2 + half;
          const int to_column = column + nt * 8 + 4 * i;
          if (p.parts == 1) store_four(p.store, batch, to_row, to_column, p.m, p.n, x);
          else if (to_row < p.m && to_column < p.n)
            *reinterpret_cast<float4*>(
                p.sums + part_place(p.m, p.n, batch * p.parts + blockIdx.y, to_row, to_column)) =
                float4{x[0], x[1], x[2], x[3]};
        }
}

}  // namespace vt::cuda::split
