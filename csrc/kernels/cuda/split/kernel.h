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
inline constexpr int kStages = 3;
inline constexpr int kSharedBytes = kStages * kStageBytes + kRows * kPadded * 4;

// Everything a launch needs. Strides in elements; a_stride and b_stride step along the dimension
// that is not contiguous.
struct Product {
  const float *a, *b;
  int64_t a_stride, b_stride, a_batch, b_batch;
  int m, n, k;
  int tiles_m, tiles_n;
  int parts;    // of k
  int part;     // how long one is: a multiple of two steps
  int works;    // tiles * parts * batch: what blocks take in turn
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

// Both operands of step after step of work after work. Memory is read two steps before the products
// and split one step before, so the next work begins while the results of one are stored.
template <Order kA, Order kB>
class Loaders {
 public:
  __device__ Loaders(const Product& p, int row, int t)
      : p_(p), left_(p.a_stride, t), right_(p.b_stride), row_(row) {
    start();
  }
  __device__ __forceinline__ void load() {
    left_.load(inner_);
    right_.load(inner_);
    inner_ -= kStep;
  }
  // After two loads.
  __device__ __forceinline__ void advance() {
    if (inner_ > 0) return;
    index_ += static_cast<int>(gridDim.x);
    start();
  }
  __device__ __forceinline__ void split(LeftPieces (&pieces)[kSixteens], char* stage) const {
    left_.split(pieces);
    right_.split(stage);
  }

 private:
  __device__ __forceinline__ void start() {
    if (index_ >= p_.works) return;  // nothing is left: inner_ keeps all further reads off
    const Work work(p_, index_);
    left_.start(work.a<kA>(p_), work.first_row + row_, p_.m);
    right_.start(work.b<kB>(p_), work.first_column, p_.n);
    inner_ = work.count;
  }

  const Product& p_;
  LeftLoader<kA> left_;
  RightLoader<kB> right_;
  int row_, index_ = static_cast<int>(blockIdx.x), inner_ = 0;
};

// Waits for the other warps of the group. Does x hold in any of them?
template <int kGroup>
__device__ __forceinline__ bool any_of_group(bool x) {
  uint32_t any;
  asm volatile(
      "{.reg .pred own, all; setp.ne.u32 own, %1, 0;\n"
      "bar.red.or.pred all, %2, 128, own; selp.u32 %0, 1, 0, all;}"
      : "=r"(any)
      : "r"(x ? 1 : 0), "n"(kGroup + 1)
      : "memory");
  return any != 0;
}

// The 64 rows of a group. Results go through shared memory, so that rows are written whole and by
// little code.
template <Order kA, Order kB, int kGroup>
__device__ __forceinline__ void store_tile(const Product& p, const Work& work,
                                           const float (&total)[64], float* results, int warp,
                                           int lane) {
  constexpr float kUnscale = 1 / (kSplitScale * kSplitScale);
  float* const own = results + (warp * 16 + lane / 4 * 2) * kPadded + lane % 4 * 2;
  uint32_t largest = 0;  // magnitude, as bits: an infinity or a NaN has the largest exponent
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      const float x = total[j * 4 + half * 2], y = total[j * 4 + half * 2 + 1];
      largest =
          max(largest, max(__float_as_uint(x) & 0x7fffffffu, __float_as_uint(y) & 0x7fffffffu));
      *reinterpret_cast<float2*>(own + half * kPadded + j * 8) = {x * kUnscale, y * kUnscale};
    }
  const bool plain = any_of_group<kGroup>(largest >= 0x7f800000u);
  const int column = work.first_column + lane * 4;
#pragma unroll 2
  for (int i = kGroup * 64 + warp % 4; i < kGroup * 64 + 64; i += 4) {
    const int row = work.first_row + i;
    if (row >= p.m || column >= p.n) continue;
    const float4 four = *reinterpret_cast<const float4*>(results + i * kPadded + lane * 4);
    float x[4] = {four.x, four.y, four.z, four.w};
    if (plain)
      multiply_plainly<kA, kB>(x, work.a<kA>(p), work.b<kB>(p), p, row, column, work.count);
    if (p.parts == 1) store_four(p.store, work.batch, row, column, p.n, x);
    else
      *reinterpret_cast<float4*>(p.sums + part_place(p.m, p.n, work.batch * p.parts + work.part,
                                                     row, column)) = {x[0], x[1], x[2], x[3]};
  }
}

// Note [Two groups of warps]: a warp that has given the tensor cores work waits until they take it,
// so they would idle while both groups split numbers and add sums. Between two barriers the first
// group therefore starts its products and then splits the next step; the second one adds up what
// its products of the step before have become, splits, and then starts its products, which go on
// past the barrier. A stage of shared memory is written again two barriers after its products
// began, when both groups have waited for them. While products run nothing they read may be
// written, so each of two steps has registers of its own.
template <Order kA, Order kB, bool kFirst>
__device__ __forceinline__ void multiply_tiles(const Product& p, char* shared) {
  auto* const results = reinterpret_cast<float*>(shared + kStages * kStageBytes);
  const auto stages = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;

  Loaders<kA, kB> loaders(p, warp * 16 + lane / 4 * 2, lane % 4);
  LeftPieces even[kSixteens], odd[kSixteens];
  float total[64], sum[64];
  int now_stage = 0, next_stage = kStageBytes;
  const auto add = [&] {
    await_products();
#pragma unroll
    for (int i = 0; i < 64; ++i) total[i] += sum[i];
  };
  const auto step = [&](const LeftPieces(&now)[kSixteens], LeftPieces(&next)[kSixteens]) {
    publish_operands();
    __syncthreads();  // this step's right operand is there
    if constexpr (kFirst) start_products(sum, now, stages + now_stage);
    else add();
    loaders.split(next, shared + next_stage);
    loaders.load();
    if constexpr (kFirst) add();
    else start_products(sum, now, stages + now_stage);
    now_stage = next_stage;
    next_stage = next_stage == (kStages - 1) * kStageBytes ? 0 : next_stage + kStageBytes;
  };
  loaders.load();
  loaders.split(even, shared);
  loaders.load();
  loaders.advance();
#pragma unroll 1
  for (int index = static_cast<int>(blockIdx.x); index < p.works;
       index += static_cast<int>(gridDim.x)) {
    const Work work(p, index);
#pragma unroll
    for (int i = 0; i < 64; ++i) total[i] = sum[i] = 0;
#pragma unroll 1
    for (int left = work.count; left > 0; left -= 2 * kStep) {
      step(even, odd);
      step(odd, even);
      loaders.advance();
    }
    if constexpr (!kFirst) add();
    store_tile<kA, kB, kFirst ? 0 : 1>(p, work, total, results, warp, lane);
  }
}

template <Order kA, Order kB>
__global__ void __launch_bounds__(kThreads, 1)
    split_product_kernel(const __grid_constant__ Product p) {
  extern __shared__ __align__(128) char shared[];
  if (threadIdx.x < kThreads / 2) multiply_tiles<kA, kB, true>(p, shared);
  else multiply_tiles<kA, kB, false>(p, shared);
}

}  // namespace vt::cuda::split
