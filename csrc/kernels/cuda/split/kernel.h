// The kernel that multiplies float32 matrices on tensor cores, each number in three pieces.
#pragma once
#include "kernels/cuda/launch.h"
#include "kernels/cuda/split/load.h"
#include "kernels/cuda/split/store.h"
#include "kernels/cuda/split/wgmma.h"

namespace vt::cuda::split {

inline constexpr int kRows = kSide, kColumns = kSide;  // of a block's tile
// A row of results: neighbouring rows of a warp meet different banks.
template <Order kA>
inline constexpr int kPadded = kColumns + (kA == Order::kInner ? 8 : 4);
// Shared memory: steps on their way as float32, two steps of the right operand in pieces, results.
inline constexpr int kAhead = 3;
inline constexpr int kTileLines = Tile<Order::kInner>::kLines;
inline constexpr int kStageBytes = kSixteens * 3 * kRightBytes;
inline constexpr int kResultBytes = kRows * kPadded<Order::kInner> * 4;
inline constexpr int kSharedBytes = kAhead * 2 * kTileLines * 16 + 2 * kStageBytes + kResultBytes;

// Everything a launch needs. Strides in elements; a_stride and b_stride step along the dimension
// that is not contiguous.
struct Product {
  const float *a, *b;
  int64_t a_stride, b_stride, a_batch, b_batch;
  int m, n, k;
  int tiles_m, tiles_n;
  int parts;        // of k
  int part;         // how long one is: a multiple of two steps
  int works;        // tiles * parts * batch: a block takes every gridDim.x-th
  float* sums;      // [batch, parts, m, padded n] where parts > 1
  float* row_sums;  // [parts, m] of the left operand, or null
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
// tensor cores cut bits off in each addition. They run while the caller goes on; `between(i)` is
// done when two more of them are under way.
template <class F>
__device__ __forceinline__ void start_products(float (&sum)[64],
                                               const LeftPieces (&left)[kSixteens], uint32_t stage,
                                               F&& between) {
  constexpr int kLeft[] = {2, 0, 1, 1, 0, 0}, kRight[] = {0, 2, 1, 0, 1, 0};
  begin_products();
#pragma unroll
  for (int i = 0; i < 6; ++i) {
#pragma unroll
    for (int h = 0; h < kSixteens; ++h)
      multiply_group(sum, left[h].x[kLeft[i]],
                     right_operand(stage + (h * 3 + kRight[i]) * kRightBytes), i == 0 && h == 0);
    between(i);
  }
  end_products();
}

// One tile of one part of one batch. Columns go first, so that blocks at work share rows.
struct Work {
  int first_row, first_column, count;  // count: of k
  int64_t batch, part;

  __device__ Work(const Product& p, int index) {
    first_column = index % p.tiles_n * kColumns;
    index /= p.tiles_n;
    first_row = index % p.tiles_m * kRows;
    index /= p.tiles_m;
    part = index % p.parts;
    batch = index / p.parts;
    count = min(p.part, p.k - static_cast<int>(part) * p.part);
  }
  template <Order kA>
  __device__ const float* a(const Product& p) const {
    return p.a + batch * p.a_batch + part * p.part * (kA == Order::kInner ? 1 : p.a_stride);
  }
  template <Order kB>
  __device__ const float* b(const Product& p) const {
    return p.b + batch * p.b_batch + part * p.part * (kB == Order::kInner ? 1 : p.b_stride);
  }
};

// Results go through shared memory, so that rows are written whole and by little code.
template <Order kA, Order kB>
__device__ __forceinline__ void store_tile(const Product& p, const Work& work,
                                           const float (&total)[64], float* results, int warp,
                                           int lane) {
  constexpr float kUnscale = 1 / (kSplitScale * kSplitScale);
  const int g = lane / 4, t = lane % 4;
  uint32_t largest = 0;  // magnitude, as bits: an infinity or a NaN has the largest exponent
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float* const row = results + (warp * 16 + left_row<kA>(g, half)) * kPadded<kA> + 2 * t;
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      const float x = total[j * 4 + half * 2], y = total[j * 4 + half * 2 + 1];
      largest =
          max(largest, max(__float_as_uint(x) & 0x7fffffffu, __float_as_uint(y) & 0x7fffffffu));
      *reinterpret_cast<float2*>(row + j * 8) = {x * kUnscale, y * kUnscale};
    }
  }
  const bool plain = __syncthreads_or(largest >= 0x7f800000u);
  const int column = work.first_column + lane * 4;
#pragma unroll 2
  for (int i = warp; i < kRows; i += kThreads / 32) {
    const int row = work.first_row + i;
    if (row >= p.m || column >= p.n) continue;
    const float4 four = *reinterpret_cast<const float4*>(results + i * kPadded<kA> + lane * 4);
    float x[4] = {four.x, four.y, four.z, four.w};
    if (plain)
      multiply_plainly<kA, kB>(x, work.a<kA>(p), work.b<kB>(p), p, row, column, work.count);
    if (p.parts == 1) store_four(p.store, work.batch, row, column, p.n, x);
    else
      *reinterpret_cast<float4*>(p.sums + part_place(p.m, p.n, work.batch * p.parts + work.part,
                                                     row, column)) = {x[0], x[1], x[2], x[3]};
  }
}

// The sums of 16 rows of a warp, of which each lane has a share.
__device__ __forceinline__ void store_row_sums(const Product& p, const Work& work,
                                               const float (&sums)[2], int warp, int g, int t) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = sums[half] + __shfl_xor_sync(0xffffffffu, sums[half], 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const int row = work.first_row + warp * 16 + left_row<Order::kRows>(g, half);
    if (t == 0 && work.first_column == 0 && row < p.m) p.row_sums[work.part * p.m + row] = sum;
  }
}

// The steps that a block copies, work after work without a pause.
template <Order kA, Order kB>
class Copies {
 public:
  __device__ Copies(const Product& p, float4* tiles) : first_(tiles), to_(tiles) {
    index_ = static_cast<int>(blockIdx.x);
    start(p);
  }
  __device__ __forceinline__ void copy(const Product& p) {
    Tile<kA>::copy(to_, a_, p.a_stride, rows_, inner_);
    Tile<kB>::copy(to_ + kTileLines, b_, p.b_stride, columns_, inner_);
    end_copies();
    a_ += kA == Order::kInner ? kStep : kStep * p.a_stride;
    b_ += kB == Order::kInner ? kStep : kStep * p.b_stride;
    inner_ -= kStep;
    to_ = to_ == first_ + (kAhead - 1) * 2 * kTileLines ? first_ : to_ + 2 * kTileLines;
  }
  // After each copy, where the tensor cores are idle: no branch may lie among their products.
  __device__ __forceinline__ void go_on(const Product& p) {
    if (--steps_ > 0) return;
    index_ += static_cast<int>(gridDim.x);
    start(p);
  }

 private:
  __device__ void start(const Product& p) {
    if (index_ >= p.works) {  // zeros, which nobody uses
      rows_ = columns_ = inner_ = 0;
      steps_ = 0x7fffffff;
      return;
    }
    const Work work(p, index_);
    a_ = work.a<kA>(p) + work.first_row * (kA == Order::kInner ? p.a_stride : 1);
    b_ = work.b<kB>(p) + work.first_column * (kB == Order::kInner ? p.b_stride : 1);
    rows_ = p.m - work.first_row;
    columns_ = p.n - work.first_column;
    inner_ = work.count;
    steps_ = (work.count + 2 * kStep - 1) / (2 * kStep) * 2;
  }

  float4 *first_, *to_;
  const float *a_, *b_;
  int index_, rows_, columns_, inner_, steps_;
};

template <Order kA, Order kB, bool kSums>
__global__ void __launch_bounds__(kThreads, 1)
    split_product_kernel(const __grid_constant__ Product p) {
  await_earlier();
  extern __shared__ __align__(128) float4 shared[];
  char* const pieces = reinterpret_cast<char*>(shared + kAhead * 2 * kTileLines);
  float* const results = reinterpret_cast<float*>(pieces + 2 * kStageBytes);
  const auto stages = static_cast<uint32_t>(__cvta_generic_to_shared(pieces));
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4, t = lane % 4;

  Copies<kA, kB> copies(p, shared);
  float4* from = shared;
  const auto advance = [&] {
    from = from == shared + (kAhead - 1) * 2 * kTileLines ? shared : from + 2 * kTileLines;
  };

  // Two steps a turn, each with registers of its own: while products run nothing they read may be
  // written, and no branch may lie between them and the wait, or the compiler waits for each.
  LeftPieces even[kSixteens], odd[kSixteens];
  float total[64], sum[64] = {};
  float row_sums[2] = {}, ahead[2] = {};  // of the steps multiplied, and of the one split
  int now_stage = 0;
  const auto step = [&](const LeftPieces(&now)[kSixteens], LeftPieces(&next)[kSixteens]) {
    const int next_stage = kStageBytes - now_stage;
    if constexpr (kSums) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        row_sums[half] += ahead[half];
        ahead[half] = 0;
      }
    }
    await_copies<kAhead - 2>();
    publish_operands();
    __syncthreads();  // this step's pieces are there, and the next step's numbers
    // A warp waits while the tensor cores take its products, so the next step is split in between.
    start_products(sum, now, stages + now_stage, [&](int i) {
      if (i == 0) copies.copy(p);
      if (i == 1) split_left_share<kA, kSums>(next[0], ahead, from, 0, warp, g, t);
      if (i == 2) split_left_share<kA, kSums>(next[1], ahead, from, 1, warp, g, t);
      if (i == 3) split_right_share<kB>(pieces + next_stage, from + kTileLines);
    });
    advance();
    await_products();
    hold(sum);
#pragma unroll
    for (int i = 0; i < 64; ++i) total[i] += sum[i];
    hold(sum);
    copies.go_on(p);
    now_stage = next_stage;
  };
#pragma unroll 1
  for (int i = 0; i < kAhead; ++i) {
    copies.copy(p);
    copies.go_on(p);
  }
  await_copies<kAhead - 1>();
  __syncthreads();
#pragma unroll
  for (int h = 0; h < kSixteens; ++h)
    split_left_share<kA, kSums>(even[h], ahead, from, h, warp, g, t);
  split_right_share<kB>(pieces, from + kTileLines);
  advance();
#pragma unroll 1
  for (int index = static_cast<int>(blockIdx.x); index < p.works;
       index += static_cast<int>(gridDim.x)) {
#pragma unroll
    for (int i = 0; i < 64; ++i) total[i] = 0;
#pragma unroll 1
    for (int left = Work(p, index).count; left > 0; left -= 2 * kStep) {
      step(even, odd);
      step(odd, even);
    }
    // The next work's first steps are on their way meanwhile, and its very first is split.
    store_tile<kA, kB>(p, Work(p, index), total, results, warp, lane);
    if constexpr (kSums) {
      store_row_sums(p, Work(p, index), row_sums, warp, g, t);
      row_sums[0] = row_sums[1] = 0;
    }
  }
  await_copies<0>();
}

}  // namespace vt::cuda::split
