// How float32 operands come to a block: copied to shared memory some steps ahead, then read and
// split by the threads whose share they are.
#pragma once
#include "kernels/cuda/split/pieces.h"
#include "kernels/cuda/split/wgmma.h"

namespace vt::cuda::split {

inline constexpr int kThreads = 256;  // two groups of four warps
inline constexpr int kSide = 128;     // rows, or columns, of a block's tile
inline constexpr int kSixteens = 2;
inline constexpr int kStep = kSixteens * 16;  // along k

// Which of its two dimensions lies contiguously in memory: the inner one (k), or the rows of the
// left operand and the columns of the right one, both called rows here.
enum class Order { kInner, kRows };

// Note [Order along k]: which of 16 numbers along k meets which place of a product is ours to
// choose, as long as both operands agree. Lane (g, t) holds places 2t, 2t + 1, 2t + 8 and 2t + 9 of
// a left operand; they are numbers 4t to 4t + 3, which lie side by side.

// One step of one operand: lines of four numbers, where eight neighbouring lanes find them in
// different banks.
template <Order kOrder>
struct Tile {
  static constexpr int kLines = kSide * kStep / 4;

  // Line `line` of sixteen h of a row.
  __device__ static int inner_line(int h, int row, int line) {
    return h * (kSide * 4) + ((row * 4 + line) ^ (h * 4));
  }
  // Line `line` of what lies side by side at k.
  __device__ static int rows_line(int k, int line) {
    return k * (kSide / 4) + (line ^ (k / 4 % 4 * 2));
  }

  // Starts a thread's share of the copies. `from` is the operand at the step's first k, `rows` and
  // `inner` are how many there are; zeros beyond.
  __device__ static void copy(float4* tile, const float* from, int64_t stride, int rows,
                              int inner) {
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int i = 0; i < kLines / kThreads; ++i) {
      if constexpr (kOrder == Order::kInner) {
        const int row = thread / 8 + i * (kThreads / 8), line = thread % 8;
        copy_line(tile + inner_line(line / 4, row, line % 4), from + row * stride + line * 4,
                  row < rows && line * 4 < inner);
      } else {
        const int k = thread / 32 + i * (kThreads / 32), line = thread % 32;
        copy_line(tile + rows_line(k, line), from + k * stride + line * 4,
                  k < inner && line * 4 < rows);
      }
    }
  }
};

// The row of a warp's sixteen that lane group g has in each half of a left operand.
template <Order kOrder>
__device__ __forceinline__ int left_row(int g, int half) {
  return kOrder == Order::kInner ? g + half * 8 : g * 2 + half;
}

// Where kSums is, sums[half] goes up by this lane's numbers of the half's row.
template <Order kOrder, bool kSums>
__device__ __forceinline__ void split_left_share(LeftPieces& pieces, float (&sums)[2],
                                                 const float4* tile, int h, int warp, int g,
                                                 int t) {
  float v[2][4];
  if constexpr (kOrder == Order::kInner) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float4 x = tile[Tile<kOrder>::inner_line(h, warp * 16 + left_row<kOrder>(g, half), t)];
      v[half][0] = x.x, v[half][1] = x.y, v[half][2] = x.z, v[half][3] = x.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float4* const line =
          tile + Tile<kOrder>::rows_line(h * 16 + 4 * t + i, warp * 4 + g / 2);
      const float2 x = reinterpret_cast<const float2*>(line)[g % 2];
      v[0][i] = x.x, v[1][i] = x.y;
    }
  }
  if constexpr (kSums) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
      sums[half] += (v[half][0] + v[half][1]) + (v[half][2] + v[half][3]);
  }
  pieces = split_left(v[0], v[1], kSplitScale);
}

// Into a stage of shared memory: [sixteen][piece] operands as in Note [Right operands].
template <Order kOrder>
__device__ __forceinline__ void split_right_share(char* stage, const float4* tile) {
  const int thread = static_cast<int>(threadIdx.x);
  if constexpr (kOrder == Order::kInner) {  // four lanes a column, columns c and c + 64
    const int t = thread % 4;
#pragma unroll
    for (int h = 0; h < kSixteens; ++h)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int column = thread / 4 + half * (kSide / 2);
        const float4 x = tile[Tile<kOrder>::inner_line(h, column, t)];
        uint32_t pieces[3][2];
        split_row(pieces, {x.x, x.y, x.z, x.w}, kSplitScale);
#pragma unroll
        for (int p = 0; p < 3; ++p)
#pragma unroll
          for (int eight = 0; eight < 2; ++eight)
            *reinterpret_cast<uint32_t*>(stage + (h * 3 + p) * kRightBytes + eight * kHalfBytes +
                                         column * 16 + t * 4) = pieces[p][eight];
      }
  } else {  // one sixteen of one column
    const int column = thread % kSide, h = thread / kSide;
    uint32_t pieces[4][3][2];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float v[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float4* const line = tile + Tile<kOrder>::rows_line(h * 16 + 4 * i + j, column / 4);
        v[j] = reinterpret_cast<const float*>(line)[column % 4];
      }
      split_row(pieces[i], v, kSplitScale);
    }
#pragma unroll
    for (int p = 0; p < 3; ++p)
#pragma unroll
      for (int eight = 0; eight < 2; ++eight)
        *reinterpret_cast<uint4*>(stage + (h * 3 + p) * kRightBytes + eight * kHalfBytes +
                                  column * 16) = {pieces[0][p][eight], pieces[1][p][eight],
                                                  pieces[2][p][eight], pieces[3][p][eight]};
  }
}

}  // namespace vt::cuda::split
