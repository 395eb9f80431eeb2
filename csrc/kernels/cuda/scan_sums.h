// What the blocks of a running sum in one pass tell each other: sums of tiles and of groups of
// them.
#pragma once
#include "kernels/cuda/block.h"

namespace vt::cuda {

// Note [Running sums in one pass]
// The sum of a tile is published as soon as the tile has come, whatever is before it. What comes
// before a tile is the sum of all whole groups of tiles before its own, and of the tiles of its
// group before it; who has the last tile of a group publishes the group's. So nobody waits for a
// chain of others: two waits, of those that are under way already, for a row of any length. Tiles
// are taken in order, so that a tile is only waited for once a block is at work on it. All sums are
// over the same numbers in the same order whatever was published first, so the bits depend on the
// shape only.
struct TileSums {
  static constexpr int kGroup = 128;  // tiles
  static constexpr uint64_t kPublished = uint64_t{1} << 32;
  uint64_t* words;  // zeros at first: the tiles that are taken, [row][tile], [row][group]
  int64_t rows;
  int tiles, groups;  // a row

  static int64_t words_for(int64_t rows, int64_t tiles) {
    return 1 + rows * (tiles + ceil_div(tiles, kGroup));
  }
  __device__ __forceinline__ int64_t take() const {
    return static_cast<int64_t>(atomicAdd(reinterpret_cast<unsigned long long*>(words), 1ull));
  }
  __device__ __forceinline__ uint64_t* tile(int64_t row) const { return words + 1 + row * tiles; }
  __device__ __forceinline__ uint64_t* group(int64_t row) const {
    return words + 1 + rows * tiles + row * groups;
  }
  static __device__ __forceinline__ void publish(uint64_t* word, float sum) {
    // One word: who sees the mark sees the sum.
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(word),
                 "l"(kPublished | __float_as_uint(sum))
                 : "memory");
  }
  static __device__ __forceinline__ uint64_t look(const uint64_t* word) {
    uint64_t value;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
    return value;
  }
  static __device__ __forceinline__ float sum_in(uint64_t word) {
    return __uint_as_float(static_cast<uint32_t>(word));
  }
  // The sum of `count` words, fewer than a group has, by a warp, which waits for them.
  static __device__ __forceinline__ float await(const uint64_t* words, int count, int lane) {
    constexpr int kEach = kGroup / kWarp;
    uint64_t seen[kEach];
    bool all = false;
    while (!all) {
      all = true;
#pragma unroll
      for (int u = 0; u < kEach; ++u)
        seen[u] = lane + u * kWarp < count ? look(words + lane + u * kWarp) : kPublished;
#pragma unroll
      for (int u = 0; u < kEach; ++u) all &= seen[u] >= kPublished;
    }
    float sum = 0;
#pragma unroll
    for (int u = 0; u < kEach; ++u) sum += sum_in(seen[u]);
    __syncwarp();
    return warp_reduce(sum, AddOp{});
  }
};

// What comes before the tiles of a block, whose numbers rise: the groups that it has added up.
struct SumBefore {
  int64_t row = -1;
  int groups = 0;
  float sum = 0;

  // The sum of the first `wanted` groups of a row, in their order, by a warp.
  __device__ __forceinline__ float await(const TileSums& sums, int64_t of_row, int wanted,
                                         int lane) {
    if (of_row != row) *this = {of_row, 0, 0};
    while (groups < wanted) {
      const int count = wanted - groups < kWarp ? wanted - groups : kWarp;
      uint64_t seen = TileSums::kPublished;
      if (lane < count) {
        do seen = TileSums::look(sums.group(row) + groups + lane);
        while (seen < TileSums::kPublished);
      }
      __syncwarp();
      const float own = TileSums::sum_in(seen);
      for (int j = 0; j < count; ++j) sum += __shfl_sync(0xffffffffu, own, j);
      groups += count;
    }
    return sum;
  }
};

}  // namespace vt::cuda
