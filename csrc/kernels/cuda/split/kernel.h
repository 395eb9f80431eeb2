// The kernel that multiplies float32 matrices on tensor cores, each number in three pieces.
#pragma once
#include "kernels/cuda/split/load.h"
#include "kernels/cuda/split/store.h"
#include "kernels/cuda/split/wgmma.h"

namespace vt::cuda::split {

inline constexpr int kRows = 128, kColumns = 128;  // of a block's tile
inline constexpr int kThreads = 256;               // two groups of four warps, 64 rows each
inline constexpr int kPadded = kColumns + 4;       // a row of results in shared memory
inline constexpr int kStageBytes = kSixteens * 3 * kRightBytes;
inline constexpr int kSharedBytes = kRows * kPadded * 4;
static_assert(2 * kStageBytes <= kSharedBytes);

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

// Four neighbouring results in float32 arithmetic, for numbers that the pieces do not hold:
// infinities, NaN and magnitudes near the end of the range. Slow, and rare.
template <Order kA, Order kB>
__device__ void multiply_plainly(float (&x)[4], const float* a, const float* b, const Product& p,
                                 int row, int column, int count) {
  const int64_t a_row = kA == Order::kInner ? p.a_stride : 1;
  const int64_t b_row = kB == Order::kInner ? p.b_stride : 1;
  const int64_t a_k = kA == Order::kInner ? 1 : p.a_stride;
  const int64_t b_k = kB == Order::kInner ? 1 : p.b_stride;
  for (int i = 0; i < 4; ++i) x[i] = 0;
#pragma unroll 1
  for (int k = 0; k < count; ++k) {
    const float left = a[row * a_row + k * a_k];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (column + i < p.n) x[i] = fmaf(left, b[(column + i) * b_row + k * b_k], x[i]);
  }
}

// The products of pieces over kStep along k, small ones first: a sum of their own, because the
// tensor cores cut bits off in each addition. They run while the caller goes on.
__device__ __forceinline__ void start_products(float (&sum)[64],
                                               const LeftPieces (&left)[kSixteens],
                                               uint32_t stage) {
  constexpr int kLeft[] = {2, 0, 1, 1, 0, 0}, kRight[] = {0, 2, 1, 0, 1, 0};
  begin_products();
#pragma unroll
  for (int i = 0; i < 6; ++i)
#pragma unroll
    for (int h = 0; h < kSixteens; ++h)
      multiply_group(sum, left[h].x[kLeft[i]],
                     right_operand(stage + (h * 3 + kRight[i]) * kRightBytes), i == 0 && h == 0);
  end_products();
}

template <Order kA, Order kB>
__global__ void __launch_bounds__(kThreads, 1) split_product_kernel(const Product p) {
  extern __shared__ __align__(128) char shared[];
  const int batch = static_cast<int>(blockIdx.z);
  const int first_row = static_cast<int>(blockIdx.x) / p.tiles_n * kRows;
  const int first_column = static_cast<int>(blockIdx.x) % p.tiles_n * kColumns;
  const int first_k = static_cast<int>(blockIdx.y) * p.part;
  const int count = min(p.part, p.k - first_k);
  const float* const a =
      p.a + batch * p.a_batch + first_k * (kA == Order::kInner ? int64_t{1} : p.a_stride);
  const float* const b =
      p.b + batch * p.b_batch + first_k * (kB == Order::kInner ? int64_t{1} : p.b_stride);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4, t = lane % 4;

  LeftLoader<kA> left(a, p.a_stride, first_row + warp * 16 + 2 * g, p.m, t);
  RightLoader<kB> right(b, p.b_stride, first_column, p.n);
  const auto stages = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int steps = (count + kStep - 1) / kStep;
  float total[64] = {}, sum[64];
  LeftPieces pieces[kSixteens], next[kSixteens];
  left.load(count);
  right.load(count);
  left.split(pieces);
  right.split(shared);
  left.load(count - kStep);
  right.load(count - kStep);
#pragma unroll 2
  for (int step = 0; step < steps; ++step) {
    publish_operands();
    __syncthreads();  // this step's right operand is there, and nobody reads the one before
    start_products(sum, pieces, stages + step % 2 * kStageBytes);
    left.split(next);
    right.split(shared + (step + 1) % 2 * kStageBytes);
    const int inner = count - (step + 2) * kStep;
    left.load(inner);
    right.load(inner);
    await_products();
#pragma unroll
    for (int i = 0; i < 64; ++i) total[i] += sum[i];
#pragma unroll
    for (int h = 0; h < kSixteens; ++h) pieces[h] = next[h];
  }

  // Results go through shared memory, so that rows are written whole and by little code.
  bool finite = true;
#pragma unroll
  for (int i = 0; i < 64; ++i) finite = finite && isfinite(total[i]);
  const bool plain = __syncthreads_or(!finite);
  auto* const results = reinterpret_cast<float*>(shared);
  constexpr float kUnscale = 1 / (kSplitScale * kSplitScale);
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int j = 0; j < 16; ++j)
      *reinterpret_cast<float2*>(results + (warp * 16 + 2 * g + half) * kPadded + j * 8 + 2 * t) = {
          total[j * 4 + half * 2] * kUnscale, total[j * 4 + half * 2 + 1] * kUnscale};
  __syncthreads();
  const int column = first_column + lane * 4;
#pragma unroll 2
  for (int i = warp; i < kRows; i += kThreads / 32) {
    const int row = first_row + i;
    if (row >= p.m || column >= p.n) continue;
    const float4 four = *reinterpret_cast<const float4*>(results + i * kPadded + lane * 4);
    float x[4] = {four.x, four.y, four.z, four.w};
    if (plain) multiply_plainly<kA, kB>(x, a, b, p, row, column, count);
    if (p.parts == 1) store_four(p.store, batch, row, column, p.n, x);
    else
      *reinterpret_cast<float4*>(p.sums + part_place(p.m, p.n, batch * p.parts + blockIdx.y, row,
                                                     column)) = {x[0], x[1], x[2], x[3]};
  }
}

}  // namespace vt::cuda::split
