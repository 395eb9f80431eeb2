// What a product that is stored from registers is told, and which part of a tile a thread has.
#pragma once
#include <cuda.h>

#include "base/half.h"

namespace vt::cuda::direct {

// Note [Columns of a thread]
// wgmma leaves two neighbouring columns of every eight in a thread. The rows of the right operand
// come to shared memory in another order, in groups of 32: what is at 8 q + 2 j + b lies at
// 8 j + 2 q + b. So thread q of four has the eight neighbouring columns from 8 q on, 16 bytes of a
// result, and reads and writes memory without a detour by shared memory or other threads.
inline constexpr int kGroup = 32, kPack = 8;

inline constexpr int kRows = 128, kColumns = 192, kDepth = 64;  // a tile, and of k at once
inline constexpr int kGroups = kColumns / kGroup;
inline constexpr int kBlocks = 2;  // neighbours below each other share the right operand
inline constexpr int kLeftBytes = kRows * kDepth * 2, kRightBytes = kColumns * kDepth * 2;
inline constexpr int kStageBytes = kLeftBytes + kRightBytes;
inline constexpr int kStages = 5;
inline constexpr int kAtom = 1024;  // swizzled atoms begin at multiples of it
inline constexpr int kBarriersBytes = 2 * 8 * kStages;
inline constexpr int kSharedBytes = kAtom + kStages * kStageBytes + kBarriersBytes;
inline constexpr int kThreads = 3 * 128;  // two groups that multiply, one that fetches

struct Job {
  CUtensorMap left, right;
  int m, tiles_of_n, pairs, steps;  // pairs of tiles; steps of kDepth
  const BFloat16* bias;             // n, or null
  BFloat16* out;
  void* aux;  // float16
  const BFloat16* addend;
  float* sums;  // null, or a row of them for each warp of a tile
  // Elements between rows, of addend too as of out.
  uint32_t out_stride, aux_stride, sums_stride;
};

// Of a tile a thread has 24 lines of eight columns: four rows of each group of 32.
inline constexpr int kLines = 4;
struct Spot {
  __device__ __forceinline__ Spot(const Job& job, int pair, int rank, int warp, int lane)
      : tile(pair / job.tiles_of_n * kBlocks + rank),
        row(tile * kRows + warp * 16 + lane / 4),
        column(pair % job.tiles_of_n * kColumns + lane % 4 * kPack),
        left(job.m - row) {}

  int tile;  // of rows
  uint32_t row, column;
  int left;  // rows of the matrix from `row` on

  static __device__ __forceinline__ int row_of(int line) { return line / 2 * 64 + line % 2 * 8; }
  __device__ __forceinline__ bool has(int line) const { return row_of(line) < left; }
  // Computed anew where it is needed: all places at once would take too many registers.
  __device__ __forceinline__ uint32_t place(int line, int group, uint32_t stride) const {
    uint32_t at = (row + row_of(line)) * stride + column + group * kGroup;
    asm volatile("" : "+r"(at));
    return at;
  }
};

}  // namespace vt::cuda::direct
