// Running sums of long rows that are read once: tiles that tell each other their sums.
#pragma once
#include "kernels/cuda/packs.h"

namespace vt::cuda {

// Note [Running sums in one pass]
// A block takes the next tile, adds it up, and publishes the sum. What comes before a tile is the
// sum of all whole groups of tiles before its own, and of the tiles of its group before it; the
// last tile of a group publishes the group's. So nobody waits for a chain of others: two waits, of
// those that are under way already, for a row of any length. Blocks take tiles in order, so that
// a tile is only waited for once a block is at work on it. All sums are over the same numbers in
// the same order whatever was published first, so the bits depend on the shape only.
template <class A>
struct TileSums {
  static constexpr int kGroup = 128;  // tiles
  // Beyond that a tile would look at too many groups.
  static constexpr int64_t kMostTiles = int64_t{kGroup} * 1024;
  static constexpr uint64_t kPublished = uint64_t{1} << 32;
  static_assert(sizeof(A) == 4);
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
  static __device__ __forceinline__ void publish(uint64_t* word, A sum) {
    uint32_t bits;
    memcpy(&bits, &sum, 4);
    // One word: who sees the mark sees the sum.
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(word), "l"(kPublished | bits)
                 : "memory");
  }
  static __device__ __forceinline__ uint64_t look(const uint64_t* word) {
    uint64_t value;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
    return value;
  }
  // The sum of words [0, count), by a warp, which waits for them; four are looked at at once.
  static __device__ __forceinline__ A await(const uint64_t* words, int count, int lane) {
    A sum = 0;
    for (int first = lane; first < count; first += 4 * kWarp) {
      uint64_t seen[4];
      bool all = false;
      while (!all) {
        all = true;
#pragma unroll
        for (int u = 0; u < 4; ++u)
          seen[u] = first + u * kWarp < count ? look(words + first + u * kWarp) : kPublished;
#pragma unroll
        for (int u = 0; u < 4; ++u) all &= seen[u] >= kPublished;
      }
#pragma unroll
      for (int u = 0; u < 4; ++u) {
        const auto bits = static_cast<uint32_t>(seen[u]);
        A value;
        memcpy(&value, &bits, 4);
        sum += value;
      }
    }
    __syncwarp();
    return warp_reduce(sum, AddOp{});
  }
};

// Each thread has kPacks packs of V elements, a warp kPacks stretches of 32 neighbouring packs.
template <class T, int V, int kPacks, int kBlock, int kBlocks>
__global__ void __launch_bounds__(kBlock, kBlocks)
    cumsum_once_kernel(T* out, const T* x, TileSums<float> sums, int64_t n) {
  await_earlier();
  using A = float;
  constexpr int kWarps = kBlock / kWarp;
  __shared__ int64_t taken;
  __shared__ A warp_sums[kWarps], before[2];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  if (threadIdx.x == 0) taken = sums.take();
  __syncthreads();
  const int64_t row = taken / sums.tiles;
  const int tile = static_cast<int>(taken - row * sums.tiles);
  const int64_t first = int64_t{tile} * (kBlock * kPacks * V) + (warp * kPacks * kWarp + lane) * V;
  x += row * n + first;
  out += row * n + first;
  // Elements from this thread's first one on; may be negative.
  constexpr int kEnough = kPacks * kWarp * V;
  const int left = n - first < kEnough ? static_cast<int>(n - first) : kEnough;
  Pack<T, V> packs[kPacks];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int at = p * kWarp * V;
    if (at + V <= left) {
      packs[p] = *reinterpret_cast<const Pack<T, V>*>(x + at);
    } else {
#pragma unroll
      for (int j = 0; j < V; ++j) packs[p].v[j] = at + j < left ? x[at + j] : T(0);
    }
  }
  A starts[kPacks];  // what comes before a pack in its stretch, then in its warp
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const Pack<A, V> values = widen<A>(packs[p]);
    A sum = values.v[0];
#pragma unroll
    for (int j = 1; j < V; ++j) sum += values.v[j];
    starts[p] = sum;
  }
  // What was widened is widened again later: kept, it would take twice the registers.
  if constexpr (sizeof(T) < sizeof(A) && V > 1) {
#pragma unroll
    for (Pack<T, V>& pack : packs) {
      uint32_t words[sizeof pack / 4];
      memcpy(words, &pack, sizeof pack);
#pragma unroll
      for (uint32_t& word : words) asm volatile("" : "+r"(word));
      memcpy(&pack, words, sizeof pack);
    }
  }
  A carry = 0;
  {
#pragma unroll
    for (int d = 1; d < kWarp; d *= 2)
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
        const A other = __shfl_up_sync(0xffffffffu, starts[p], d);
        if (lane >= d) starts[p] += other;
      }
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const A total = __shfl_sync(0xffffffffu, starts[p], kWarp - 1);
      const A neighbour = __shfl_up_sync(0xffffffffu, starts[p], 1);
      starts[p] = carry + (lane > 0 ? neighbour : A(0));
      carry += total;
    }
  }
  if (lane == 0) warp_sums[warp] = carry;
  __syncthreads();
  A own = 0, total = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    if (w == warp) own = total;
    total += warp_sums[w];
  }
  constexpr int kGroup = TileSums<A>::kGroup;
  const int group = tile / kGroup, place = tile % kGroup;
  if (threadIdx.x == 0) sums.publish(sums.tile(row) + tile, total);
  if (warp == 0) {
    const A sum = sums.await(sums.tile(row) + group * kGroup, place, lane);
    if (lane == 0) {
      before[0] = sum;
      if (place == kGroup - 1) sums.publish(sums.group(row) + group, sum + total);
    }
  } else if (warp == 1) {
    const A sum = sums.await(sums.group(row), group, lane);
    if (lane == 0) before[1] = sum;
  }
  __syncthreads();
  own += before[1] + before[0];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    Pack<A, V> values = widen<A>(packs[p]);
    const A start = own + starts[p];
    A sum = 0;
#pragma unroll
    for (A& value : values.v) {
      sum += value;
      value = start + sum;
    }
    const Pack<T, V> result = narrow<T>(values);
    const int at = p * kWarp * V;
    if (at + V <= left) {
      *reinterpret_cast<Pack<T, V>*>(out + at) = result;
    } else {
#pragma unroll
      for (int j = 0; j < V; ++j)
        if (at + j < left) out[at + j] = result.v[j];
    }
  }
}

}  // namespace vt::cuda
