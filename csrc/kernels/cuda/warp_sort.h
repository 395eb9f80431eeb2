// Sorting short rows in the registers of a warp, by a bitonic network.
#pragma once
#include "kernels/cuda/sort_key.h"

namespace vt::cuda {

// Note [Rows sorted in a warp]
// A lane holds kItems neighbouring places of the row, so that most steps of the network compare
// within a lane. What is compared is the key of a value and, below it, where the value came from:
// all are different then, equal values keep their order, and a network, which is not stable by
// itself, may be used. Each merge begins by comparing with the mirrored place, which makes every
// comparison put the smaller one first.

// Keys of up to 16 bits and their positions share a word.
template <class T>
using ranked_t = std::conditional_t<sizeof(T) <= 2, uint32_t, uint64_t>;
template <class T>
inline constexpr int kPositionBits = sizeof(T) <= 2 ? 16 : 32;

template <int kItems, class R>
__device__ __forceinline__ void sort_in_lane(R& a, R& b) {
  const bool swap = b < a;
  const R low = swap ? b : a, high = swap ? a : b;
  a = low;
  b = high;
}

// The items of lane `lane ^ mask`, mirrored where `kMirror`; the upper lane of two keeps the
// larger.
template <bool kMirror, int kItems, class R>
__device__ __forceinline__ void exchange_lanes(R (&items)[kItems], int mask, bool upper) {
  R others[kItems];
#pragma unroll
  for (int i = 0; i < kItems; ++i)
    others[i] = __shfl_xor_sync(0xffffffffu, items[kMirror ? kItems - 1 - i : i], mask);
#pragma unroll
  for (int i = 0; i < kItems; ++i)
    if ((others[i] < items[i]) != upper) items[i] = others[i];
}

// The items of a warp, lane after lane, in ascending order. All are different.
template <int kItems, class R>
__device__ __forceinline__ void sort_warp(R (&items)[kItems]) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int size = 2; size <= kItems; size *= 2) {
#pragma unroll
    for (int i = 0; i < kItems; ++i)
      if (const int other = i ^ (size - 1); i < other) sort_in_lane<kItems>(items[i], items[other]);
#pragma unroll
    for (int step = size / 4; step > 0; step /= 2)
#pragma unroll
      for (int i = 0; i < kItems; ++i)
        if (!(i & step)) sort_in_lane<kItems>(items[i], items[i | step]);
  }
#pragma unroll
  for (int lanes = 2; lanes <= kWarp; lanes *= 2) {
    exchange_lanes<true>(items, lanes - 1, (lane & (lanes / 2)) != 0);
#pragma unroll
    for (int step = lanes / 4; step > 0; step /= 2)
      exchange_lanes<false>(items, step, (lane & step) != 0);
#pragma unroll
    for (int step = kItems / 2; step > 0; step /= 2)
#pragma unroll
      for (int i = 0; i < kItems; ++i)
        if (!(i & step)) sort_in_lane<kItems>(items[i], items[i | step]);
  }
}

// A warp a row of n <= 32 * kItems elements.
template <class T, int kItems, int kBlock>
__global__ void __launch_bounds__(kBlock)
    sort_warp_rows_kernel(T* values, int64_t* indices, const T* x, int64_t rows, int n,
                          bool descending) {
  await_earlier();
  using Key = SortKey<T>;
  using R = ranked_t<T>;
  const int64_t row = int64_t{blockIdx.x} * (kBlock / kWarp) + threadIdx.x / kWarp;
  if (row >= rows) return;
  const int lane = threadIdx.x % kWarp;
  x += row * n;
  values += row * n;
  indices += row * n;
  T own[kItems];
#pragma unroll
  for (int i = 0; i < kItems; ++i)  // at any place, as each knows where it came from
    if (const int at = i * kWarp + lane; at < n) own[i] = x[at];
  R items[kItems];
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const int at = i * kWarp + lane;
    // What is past the row comes last, as its position does.
    auto key = Key::kMask;
    if (at < n) key = descending ? ~Key::of(own[i]) & Key::kMask : Key::of(own[i]);
    items[i] = static_cast<R>(key) << kPositionBits<T> | static_cast<R>(at);
  }
  sort_warp(items);
  const int first = lane * kItems;
  auto position = [&](int i) {
    return static_cast<int>(items[i] & ((R(1) << kPositionBits<T>)-1));
  };
  T sorted[kItems];
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    auto key = static_cast<typename Key::Key>(items[i] >> kPositionBits<T>);
    if (descending) key = ~key & Key::kMask;
    if (Key::is_exact(key)) sorted[i] = Key::value(key);
    else if (first + i < n) sorted[i] = x[position(i)];
  }
  constexpr int kPack = 16 / sizeof(T) < kItems ? 16 / sizeof(T) : kItems;
  if (n == kItems * kWarp) {  // whole packs, which are aligned
    static_assert(kItems % 2 == 0);
#pragma unroll
    for (int i = 0; i < kItems; i += kPack) {
      Pack<T, kPack> pack;
#pragma unroll
      for (int j = 0; j < kPack; ++j) pack.v[j] = sorted[i + j];
      *reinterpret_cast<Pack<T, kPack>*>(values + first + i) = pack;
    }
#pragma unroll
    for (int i = 0; i < kItems; i += 2)
      *reinterpret_cast<Pack<int64_t, 2>*>(indices + first + i) = {position(i), position(i + 1)};
    return;
  }
#pragma unroll
  for (int i = 0; i < kItems; ++i)
    if (first + i < n) {
      values[first + i] = sorted[i];
      indices[first + i] = position(i);
    }
}

}  // namespace vt::cuda
