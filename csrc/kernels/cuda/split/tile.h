// Tiles of float32 operands in shared memory, and what a warp makes of them: pieces for the tensor
// cores. Note [Three pieces] says what the pieces are.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/split_float.h"

namespace vt::cuda::split {

inline constexpr int kStep = 16;  // of the inner dimension, a stage

// Which of its two dimensions lies contiguously in memory: the inner one (k), or the rows of the
// left operand and the columns of the right one, both called rows here.
enum class Order { kInner, kRows };

// Note [Places in a tile]: which element meets which lane is ours to choose, as long as both
// operands agree on k and the results are stored by the same rule. Lane (g, t) = (lane / 4, lane %
// 4) holds k = 4t to 4t + 3 of rows 4g to 4g + 3 of a group of 32 rows: sixteen numbers that lie in
// four lines of 16 bytes in either order. A tile keeps lines where eight neighbouring lanes find
// them in different banks.
template <int kRows, Order kOrder>
struct Tile {
  static constexpr int kLines = kRows * kStep / 4;

  // `line` counts along the contiguous dimension, `across` along the other.
  __device__ static int place(int across, int line) {
    if constexpr (kOrder == Order::kInner)  // two rows share eight lines
      return (across >> 1) * 8 + ((((across & 1) << 2) | line) ^ (across & 4));
    else return across * (kRows / 4) + (line ^ ((across >> 2) << 1));
  }

  // The numbers of lane (g, t): v[row][k].
  __device__ static void fetch(float (&v)[4][4], const float4* tile, int group, int g, int t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (kOrder == Order::kInner) {
        const float4 x = tile[place(group * 32 + 4 * g + i, t)];
        v[i][0] = x.x, v[i][1] = x.y, v[i][2] = x.z, v[i][3] = x.w;
      } else {
        const float4 x = tile[place(4 * t + i, group * 8 + g)];
        v[0][i] = x.x, v[1][i] = x.y, v[2][i] = x.z, v[3][i] = x.w;
      }
    }
  }
};

// Copies 16 bytes in the background; zeros where there is nothing to read.
__device__ __forceinline__ void copy_line(float4* to, const float* from, bool there) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  const int bytes = there ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
               "r"(bytes));
}
__device__ __forceinline__ void end_copies() { asm volatile("cp.async.commit_group;"); }
template <int kPending>
__device__ __forceinline__ void await_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending));
}

// A thread's share of bringing tile after tile of one operand into shared memory.
template <int kRows, Order kOrder, int kThreads>
class Loader {
  using T = Tile<kRows, kOrder>;
  static constexpr int kWide = kOrder == Order::kInner ? kStep / 4 : kRows / 4;  // lines in a row
  static constexpr int kApart = kThreads / kWide;  // between two loads, across
  static constexpr int kLoads = T::kLines / kThreads;
  static_assert(kThreads % kWide == 0 && T::kLines % kThreads == 0);

 public:
  // `from` is the operand at row 0 and the first k of the block, `rows` how many it has.
  __device__ Loader(const float* from, int64_t stride, int first_row, int rows)
      : line_(static_cast<int>(threadIdx.x) % kWide),
        across_(static_cast<int>(threadIdx.x) / kWide),
        apart_(stride * kApart),
        step_(kOrder == Order::kInner ? kStep : stride * kStep) {
    if constexpr (kOrder == Order::kInner) {
      from_ = from + (first_row + across_) * stride + line_ * 4;
      left_ = rows - first_row - across_;
    } else {
      from_ = from + across_ * stride + first_row + line_ * 4;
      left_ = rows - first_row - line_ * 4;
    }
  }
  // The next step: `inner` numbers along k are left.
  __device__ void load(float4* tile, int inner) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int across = across_ + i * kApart;
      const bool there = kOrder == Order::kInner ? i * kApart < left_ && line_ * 4 < inner
                                                 : left_ > 0 && across < inner;
      copy_line(tile + T::place(across, line_), from_ + i * apart_, there);
    }
    from_ += step_;
  }

 private:
  const float* from_;
  int line_, across_, left_;
  int64_t apart_, step_;
};

// Row and column operands of one m16n8k16 product, in three pieces.
struct LeftPieces {
  uint32_t x[3][4];
};
struct RightPieces {
  uint32_t x[3][2];
};

// Four numbers along k of one row or column, times a factor.
__device__ __forceinline__ void split_row(uint32_t (&pieces)[3][2], const float (&v)[4],
                                          float factor) {
  const SplitPair low = split_pair(v[0] * factor, v[1] * factor);
  const SplitPair high = split_pair(v[2] * factor, v[3] * factor);
#pragma unroll
  for (int p = 0; p < 3; ++p) {
    pieces[p][0] = low.piece[p];
    pieces[p][1] = high.piece[p];
  }
}
__device__ __forceinline__ LeftPieces split_left(const float (&upper)[4], const float (&lower)[4],
                                                 float factor) {
  uint32_t u[3][2], l[3][2];
  split_row(u, upper, factor);
  split_row(l, lower, factor);
  LeftPieces result;
#pragma unroll
  for (int p = 0; p < 3; ++p) {
    result.x[p][0] = u[p][0];
    result.x[p][1] = l[p][0];
    result.x[p][2] = u[p][1];
    result.x[p][3] = l[p][1];
  }
  return result;
}

// sum += left * right, on one piece of each.
__device__ __forceinline__ void multiply(float (&sum)[4], const uint32_t (&left)[4],
                                         const uint32_t (&right)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
}

// Adds the product of a 16 x 16 by kCount 16 x 8 to the totals. The six products of pieces meet in
// a sum of their own, small ones first, because the tensor cores cut bits off in each addition;
// that sum is then added with rounding to nearest.
template <int kCount>
__device__ __forceinline__ void multiply_add(float (*total)[4], const LeftPieces& left,
                                             const RightPieces* right) {
  constexpr int kLeft[] = {2, 0, 1, 1, 0, 0}, kRight[] = {0, 2, 1, 0, 1, 0};
  float sum[kCount][4] = {};
#pragma unroll
  for (int i = 0; i < 6; ++i)
#pragma unroll
    for (int n = 0; n < kCount; ++n) multiply(sum[n], left.x[kLeft[i]], right[n].x[kRight[i]]);
#pragma unroll
  for (int n = 0; n < kCount; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) total[n][i] += sum[n][i];
}

}  // namespace vt::cuda::split
