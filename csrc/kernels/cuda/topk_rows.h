// What kernels that find the first of a row share: keys with positions, bounds of the answer, and
// the exact way for rows whose bounds leave too much.
#pragma once
#include "kernels/cuda/block.h"
#include "kernels/cuda/sort_key.h"

namespace vt::cuda {

// A key with its position; smaller is earlier in the result.
using Item = unsigned long long;

// Threads that work on a row together: a block, or a part of it with a barrier of its own.
struct Team {
  int thread, size, barrier;
  __device__ __forceinline__ void meet() const {
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(size) : "memory");
  }
};
inline __device__ Team whole_block() {
  return {static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x), 0};
}

// One row of keys, so ordered that the wanted ones are the smallest.
template <class T, int V>
struct KeyRow {
  const T* data;
  int64_t n;
  bool largest;

  __device__ uint32_t key(T value) const {
    const uint32_t key = SortKey<T>::of(value);
    return largest ? ~key & SortKey<T>::kMask : key;
  }
  // f(key, position) for every element, V neighbours at a time; each thread sees its own in order.
  template <class F>
  __device__ void each(const Team& team, F&& f) const {
    for (int64_t i = int64_t{team.thread} * V; i < n; i += int64_t{team.size} * V) {
      const auto pack = *reinterpret_cast<const Pack<T, V>*>(data + i);
#pragma unroll
      for (int v = 0; v < V; ++v) f(key(pack.v[v]), static_cast<uint32_t>(i + v));
    }
  }
};

inline __device__ Item item_of(uint32_t key, uint32_t position) {
  return Item{key} << 32 | position;
}

// The sum over the team, for every thread. `shared` holds a number a warp.
inline __device__ int sum_of_team(const Team& team, int value, int* shared) {
  value = __reduce_add_sync(0xffffffffu, value);
  team.meet();
  if (team.thread % kWarp == 0) shared[team.thread / kWarp] = value;
  team.meet();
  int sum = 0;
  for (int w = 0; w < team.size / kWarp; ++w) sum += shared[w];
  return sum;
}

// For rows with too many candidates, such as of many equal values: the k-th smallest key bit by
// bit, then all smaller ones and the first that are equal to it.
template <class Row>
__device__ void take_exactly(const Team& team, const Row& row, Item* items, int k, int bits,
                             int* shared, int* counter) {
  uint32_t bound = 0;  // the largest key with fewer than k smaller ones
  int smaller = 0;
  for (int bit = bits - 1; bit >= 0; --bit) {
    const uint32_t trial = bound | uint32_t{1} << bit;
    int count = 0;
    row.each(team, [&](uint32_t key, uint32_t) { count += key < trial; });
    const int below = sum_of_team(team, count, shared);
    if (below < k) {
      bound = trial;
      smaller = below;
    }
  }
  if (team.thread == 0) *counter = 0;
  team.meet();
  row.each(team, [&](uint32_t key, uint32_t position) {
    if (key < bound) items[atomicAdd(counter, 1)] = item_of(key, position);
  });
  // The equal ones in the order of their positions.
  int taken = smaller;
  for (int64_t start = 0; start < row.n && taken < k; start += team.size) {
    const int64_t i = start + team.thread;
    const bool equal = i < row.n && row.key(row.data[i]) == bound;
    const unsigned lanes = __ballot_sync(0xffffffffu, equal);
    const int warp = team.thread / kWarp, lane = team.thread % kWarp;
    team.meet();
    if (lane == 0) shared[warp] = __popc(lanes);
    team.meet();
    int before = taken + __popc(lanes & ((1u << lane) - 1)), all = 0;
    for (int w = 0; w < team.size / kWarp; ++w) {
      if (w < warp) before += shared[w];
      all += shared[w];
    }
    if (equal && before < k) items[before] = item_of(bound, static_cast<uint32_t>(i));
    taken += all;
  }
  team.meet();
}

// Note [The first of a held row]
// A row lies in the registers of a block, or in shared memory. The k-th largest of the maxima of
// 128 groups of threads has k elements at least that are not below it, and few more than k: these
// are collected, and each counts those that come before it. NaNs are the first of all: the maxima
// pass them over, and none of them is below anything.
inline constexpr int kHeldThreads = 512, kHeldGroups = 128, kHeldMost = 64;
inline constexpr int kHeldCandidates = kHeldThreads;

// The k-th smallest of 128 keys of kBits bits, by one warp: bit by bit.
template <int kBits>
__device__ __forceinline__ uint32_t kth_of_groups(const uint32_t* keys, int k, int lane) {
  constexpr int kOwn = kHeldGroups / kWarp;
  uint32_t own[kOwn], found = 0;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) own[i] = keys[i * kWarp + lane];
#pragma unroll
  for (int bit = kBits - 1; bit >= 0; --bit) {
    const uint32_t trial = found | uint32_t{1} << bit;
    int below = 0;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) below += own[i] < trial;
    if (__reduce_add_sync(0xffffffffu, below) < k) found = trial;
  }
  return found;
}

// How many of some items, all of which differ, come before one.
__device__ __forceinline__ int place_among(const Item* items, int count, Item own) {
  int place = 0;
#pragma unroll 8
  for (int i = 0; i < count; ++i) place += items[i] < own;
  return place;
}

}  // namespace vt::cuda
