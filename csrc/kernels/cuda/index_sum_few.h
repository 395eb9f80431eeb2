// Sums of slices by few indices, without sorting these: every block looks at all of them.
#pragma once
#include "device/cuda/fault.h"
#include "kernels/cuda/packs.h"
#include "kernels/cuda/reduce_ops.h"

namespace vt::cuda {

// Note [Sums of few indices]
// Block b owns the slices b, b + B, b + 2 B, ... of the result, B a power of two: neighbours, which
// are often wanted equally much, belong to different blocks. It reads all indices, lists those that
// are its own in their order, and each of its warps adds up what the list has of one slice after
// the other. A slice that is met very often is added up by all warps: each takes an equal stretch
// of the list, and their sums are added up in order. Every slice is written once, zeros included,
// and the order of its sum depends on the indices only.
inline constexpr int kMostFew = 16384;             // indices: a position takes 16 bits of an entry
inline constexpr int64_t kMostOwned = 2048;        // slices of a block
inline constexpr int kMostParts = 8;               // blocks that share slices
inline constexpr int64_t kMostCompared = 1 << 14;  // slices with entries, a block
inline constexpr int kOftenMet = 64;               // more than that are shared by all warps

struct FewIndices {
  const int64_t* index;
  int count;
  int64_t n, inner;  // inner in packs
  int block_bits;    // B = 1 << block_bits
};

// blockIdx.y chooses 32 * kPacks packs of the slices, kPacks a lane.
template <class T, int V, int kPacks, int kBlock, int kEach>
__global__ void __launch_bounds__(kBlock, 1024 / kBlock)
    sum_few_kernel(T* out, const T* src, FewIndices few, FaultNote* note) {
  await_earlier();
  using A = sum_t<T>;
  constexpr int kWarps = kBlock / kWarp;
  extern __shared__ __align__(16) uint32_t list[];  // [kBlock * kEach]: own slice, position
  __shared__ int counts[kWarps], often_met[kMostFew / kOftenMet], often;
  struct Sums {
    Pack<A, V> v[kPacks];
  };
  __shared__ Sums parts[kWarps][kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const auto mask = (1u << few.block_bits) - 1;
  uint32_t own[kEach];
  constexpr uint32_t kNone = ~0u;
  const int begin = warp * (kEach * kWarp) + lane;
  int count = 0;
  constexpr int kTogether = kEach < 8 ? kEach : 8;  // loads that are on their way at once
#pragma unroll
  for (int first = 0; first < kEach; first += kTogether) {
    int64_t values[kTogether];
#pragma unroll
    for (int k = 0; k < kTogether; ++k) {
      const int at = begin + (first + k) * kWarp;
      values[k] = few.index[at < few.count ? at : 0];
    }
#pragma unroll
    for (int k = 0; k < kTogether; ++k) {
      const int at = begin + (first + k) * kWarp;
      const bool fits = values[k] >= 0 && values[k] < few.n;
      if (!fits && blockIdx.x == 0 && blockIdx.y == 0)
        note_index_fault(note, "index_add", values[k], few.n);
      const bool mine = fits && at < few.count && (values[k] & mask) == blockIdx.x;
      own[first + k] = mine ? static_cast<uint32_t>(values[k] >> few.block_bits) << 16 |
                                  static_cast<uint32_t>(at)
                            : kNone;
    }
  }
#pragma unroll
  for (int k = 0; k < kEach; ++k) count += __popc(__ballot_sync(0xffffffffu, own[k] != kNone));
  if (lane == 0) counts[warp] = count;
  if (threadIdx.x == 0) often = 0;
  __syncthreads();
  int place = 0, length = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    if (w == warp) place = length;
    length += counts[w];
  }
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    const unsigned mine = __ballot_sync(0xffffffffu, own[k] != kNone);
    if (own[k] != kNone) list[place + __popc(mine & ((1u << lane) - 1))] = own[k];
    place += __popc(mine);
  }
  __syncthreads();
  const int64_t pack = int64_t{blockIdx.y} * (kWarp * kPacks) + lane;
  // f(number) for the lane's packs that a slice has; loads are of the first one of all past them.
  auto each = [&](auto&& f) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (pack + p * kWarp < few.inner) f(p);
  };
  int64_t places[kPacks];
#pragma unroll
  for (int p = 0; p < kPacks; ++p)
    places[p] = pack + p * kWarp < few.inner ? (pack + p * kWarp) * V : 0;
  // Adds the next kBatch of those entries that `met` names; `found` are left.
  auto add = [&]<int kBatch>(std::integral_constant<int, kBatch>, uint32_t entry, unsigned& met,
                             int found, Sums& sums) {
    Pack<T, V> packs[kBatch][kPacks];
    int next = 0;
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      // Past the last one that one again: loads without a condition are on their way at once.
      if (met) next = __ffs(met) - 1;
      met &= met - 1;
      const uint32_t at = __shfl_sync(0xffffffffu, entry, next) & 0xffff;
      const T* row = src + int64_t{at} * few.inner * V;
#pragma unroll
      for (int p = 0; p < kPacks; ++p)
        packs[b][p] = *reinterpret_cast<const Pack<T, V>*>(row + places[p]);
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
        const Pack<A, V> values = widen<A>(packs[b][p]);
        if (b < found) {
#pragma unroll
          for (int j = 0; j < V; ++j) sums.v[p].v[j] += values.v[j];
        }
      }
    }
  };
  // The sum of what list [from, to) has of an own slice, by a warp.
  auto sum_of = [&](uint32_t slice, int from, int to) {
    Sums sums{};
    for (int first = from; first < to; first += kWarp) {
      const uint32_t entry = first + lane < to ? list[first + lane] : kNone;
      unsigned met = __ballot_sync(0xffffffffu, entry >> 16 == slice);
      while (met) {
        const int found = __popc(met);
        if (found > 2) add(std::integral_constant<int, 8 / kPacks>{}, entry, met, found, sums);
        else add(std::integral_constant<int, 2>{}, entry, met, found, sums);
      }
    }
    return sums;
  };
  auto store = [&](uint32_t slice, const Sums& sums) {
    const int64_t row = (int64_t{slice} << few.block_bits) + blockIdx.x;
    each([&](int p) {
      *reinterpret_cast<Pack<T, V>*>(out + row * few.inner * V + places[p]) = narrow<T>(sums.v[p]);
    });
  };
  const auto slices = static_cast<uint32_t>(
      (few.n - blockIdx.x + (int64_t{1} << few.block_bits) - 1) >> few.block_bits);
  for (uint32_t slice = warp; slice < slices; slice += kWarps) {
    bool shared = false;
    if (length > kOftenMet) {
      int met = 0;
      for (int first = 0; first < length; first += kWarp)
        met += __popc(
            __ballot_sync(0xffffffffu, first + lane < length && list[first + lane] >> 16 == slice));
      shared = met > kOftenMet;
    }
    if (!shared) store(slice, sum_of(slice, 0, length));
    else if (lane == 0) often_met[atomicAdd(&often, 1)] = static_cast<int>(slice);
  }
  __syncthreads();
  const int stretch = (length / kWarps / kWarp + 1) * kWarp;
  for (int s = 0; s < often; ++s) {  // in any order: each is added up on its own
    const auto slice = static_cast<uint32_t>(often_met[s]);
    const int from = warp * stretch < length ? warp * stretch : length;
    parts[warp][lane] = sum_of(slice, from, from + stretch < length ? from + stretch : length);
    __syncthreads();
    if (warp == s % kWarps) {
      Sums sums = parts[0][lane];
#pragma unroll
      for (int w = 1; w < kWarps; ++w)
#pragma unroll
        for (int p = 0; p < kPacks; ++p)
#pragma unroll
          for (int j = 0; j < V; ++j) sums.v[p].v[j] += parts[w][lane].v[p].v[j];
      store(slice, sums);
    }
    __syncthreads();
  }
}

}  // namespace vt::cuda
