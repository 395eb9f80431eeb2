// Running sums of few long rows, each element read once.
//
// Note [Running sums in one pass]
// A block sums up a tile, which it keeps in registers, and publishes the tile's total. What comes
// before the tile is the totals of those before it in its group of kGroup tiles, which the threads
// of the block fetch side by side, and what comes before the group, which the group's first tile
// adds up in the same way and publishes. So every sum has one order, whatever finishes first.
// Blocks take their tiles from a counter: a tile waits for earlier ones only, which run already.
#pragma once
#include "kernels/cuda/block.h"
#include "kernels/cuda/reduce_ops.h"

namespace vt::cuda {

inline constexpr int kScanItems = 32;  // of a thread
inline constexpr int kScanTile = kThreads * kScanItems, kScanGroup = kThreads;

// Numbers that blocks leave for each other. `flags` are 0 at the start; the last one is the
// counter.
template <class A>
struct Published {
  A* values;
  uint32_t* flags;

  __device__ __forceinline__ void put(int64_t at, A value) const {
    values[at] = value;
    asm volatile("st.release.gpu.global.u32 [%0], 1;" ::"l"(flags + at) : "memory");
  }
  // Waits until it is there.
  __device__ __forceinline__ A get(int64_t at) const {
    uint32_t there = 0;
    while (there == 0)
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                   : "=r"(there)
                   : "l"(flags + at)
                   : "memory");
    return *const_cast<const volatile A*>(values + at);
  }
};

// How rows of n elements are cut. Published are the totals of all tiles, then the sums before all
// groups.
struct ScanTiles {
  int64_t n, tiles, groups, rows;  // tiles and groups of a row
  ScanTiles(int64_t rows, int64_t n)
      : n(n), tiles(ceil_div(n, kScanTile)), groups(ceil_div(tiles, kScanGroup)), rows(rows) {}
  VT_HD int64_t count() const { return rows * (tiles + groups); }
};

// What comes before tile `tile` of the row; published for the first tile of a group.
template <class A>
__device__ __forceinline__ A sum_before_tile(const Published<A>& published, const ScanTiles& shape,
                                             int64_t row, int64_t tile) {
  __shared__ A before_group;
  const int64_t group = tile / kScanGroup, first = group * kScanGroup;
  const int64_t totals = row * shape.tiles, carries = shape.rows * shape.tiles + row * shape.groups;
  if (tile == 0) return A(0);
  const bool opens = tile == first;  // then of the whole group before, else of the own one
  const int64_t from = opens ? first - kScanGroup : first, of = opens ? group - 1 : group;
  A value = 0;
  if (from + threadIdx.x < tile) value = published.get(totals + from + threadIdx.x);
  if (threadIdx.x == 0) before_group = of == 0 ? A(0) : published.get(carries + of);
  value = block_sum<kThreads>(value);  // has barriers
  const A result = before_group + value;
  if (opens && threadIdx.x == 0) published.put(carries + group, result);
  return result;
}

// See Note [Running sums in one pass]. A warp's part of a tile is kScanItems / V packs a lane, each
// of which lies beside those of the other lanes.
template <class T, int V>
__global__ void __launch_bounds__(kThreads, sizeof(sum_t<T>) <= 4 ? 4 : 2)
    cumsum_tiles_kernel(T* out, const T* x, Published<sum_t<T>> published, ScanTiles shape) {
  using A = sum_t<T>;
  constexpr int kPacks = kScanItems / V, kWarps = kThreads / kWarp;
  __shared__ int64_t taken;
  __shared__ A warp_totals[kWarps];
  if (threadIdx.x == 0) taken = atomicAdd(published.flags + shape.count(), 1u);
  __syncthreads();
  const int64_t row = taken / shape.tiles, tile = taken % shape.tiles;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t begin = tile * kScanTile + warp * (kWarp * kScanItems) + lane * V;
  x += row * shape.n;
  out += row * shape.n;

  Pack<T, V> packs[kPacks];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int64_t i = begin + p * (kWarp * V);
    if (i + V <= shape.n) {
      packs[p] = *reinterpret_cast<const Pack<T, V>*>(x + i);
    } else {
#pragma unroll
      for (int j = 0; j < V; ++j) packs[p].v[j] = i + j < shape.n ? x[i + j] : T{};
    }
  }
  // From here on `items` are sums from the start of the warp's part.
  A items[kPacks][V], running = 0;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    A sum = 0;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      sum += convert<A>(packs[p].v[j]);
      items[p][j] = sum;
    }
#pragma unroll
    for (int step = 1; step < kWarp; step *= 2) {
      const A left = __shfl_up_sync(0xffffffffu, sum, step);
      if (lane >= step) sum += left;
    }
    A left = __shfl_up_sync(0xffffffffu, sum, 1);
    left = running + (lane == 0 ? A(0) : left);
#pragma unroll
    for (int j = 0; j < V; ++j) items[p][j] += left;
    running += __shfl_sync(0xffffffffu, sum, kWarp - 1);
  }
  if (lane == 0) warp_totals[warp] = running;
  __syncthreads();
  A before = 0, total = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    if (w == warp) before = total;
    total += warp_totals[w];
  }
  if (threadIdx.x == 0) published.put(row * shape.tiles + tile, total);
  before += sum_before_tile(published, shape, row, tile);
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int64_t i = begin + p * (kWarp * V);
    Pack<T, V> result;
#pragma unroll
    for (int j = 0; j < V; ++j) result.v[j] = convert<T>(before + items[p][j]);
    if (i + V <= shape.n) {
      *reinterpret_cast<Pack<T, V>*>(out + i) = result;
    } else {
#pragma unroll
      for (int j = 0; j < V; ++j)
        if (i + j < shape.n) out[i + j] = result.v[j];
    }
  }
}

}  // namespace vt::cuda
