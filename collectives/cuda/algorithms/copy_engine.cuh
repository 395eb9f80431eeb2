// The kernels that add up what copy engines have brought, without any waiting. The engines fill a
// link better than any kernel, and leave the multiprocessors alone.
#pragma once
#include "collectives/cuda/algorithms/copy_engine.h"
#include "collectives/cuda/vector.cuh"

namespace vt::collectives::gpu::copy_engine {

// How many words can be moved as such: all that are full, if they are aligned everywhere.
__device__ __forceinline__ int64_t aligned_words(const Args& args, int elements) {
  bool aligned = reinterpret_cast<uintptr_t>(args.out) % 16 == 0;
  for (int p = 0; p < args.ranks; ++p)
    aligned &= reinterpret_cast<uintptr_t>(args.parts[p]) % 16 == 0;
  return aligned ? args.count / elements : 0;
}

template <class T, class Op, int kLanes>
__global__ void __launch_bounds__(kMaxThreads) all_reduce(const __grid_constant__ Args args) {
  constexpr int kElements = 16 / sizeof(T), kUnroll = 8 / kLanes;
  const int64_t words = (args.count + kElements - 1) / kElements;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  const auto combine = [&](const uint4(&parts)[kLanes]) {
    Lanes<T, Op, 16> sum;
    sum.set(parts[0]);
#pragma unroll
    for (int p = 1; p < kLanes; ++p)
      if (p < args.ranks) sum.combine(parts[p]);
    return sum.template get<uint4>(args.average, args.ranks);
  };
  const int64_t whole = aligned_words(args, kElements);

  int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (; i + (kUnroll - 1) * step < whole; i += kUnroll * step) {
    uint4 parts[kUnroll][kLanes];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u)
#pragma unroll
      for (int p = 0; p < kLanes; ++p)
        if (p < args.ranks)
          parts[u][p] = load16(static_cast<const uint4*>(args.parts[p]) + i + u * step);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u)
      store16(static_cast<uint4*>(args.out) + i + u * step, combine(parts[u]));
  }
  for (; i < words; i += step) {
    uint4 parts[kLanes];
#pragma unroll
    for (int p = 0; p < kLanes; ++p)
      if (p < args.ranks) parts[p] = load_word<uint4, T>(args.parts[p], i, args.count);
    store_word<uint4, T>(args.out, i, args.count, combine(parts));
  }
}

// Note [Adding beside products]
// A product's block leaves a thousand registers of its multiprocessor, which is a warp of 32 each.
// So blocks of one such warp come beside it, one behind the other, where any larger one would wait
// for the product's end; and many at a time where nothing else runs.
template <class T, class Op, int kLanes>
__global__ void __maxnreg__(32) add_aside(const __grid_constant__ Args args) {
  constexpr int kElements = 16 / sizeof(T), kUnroll = kLanes == 2 ? 2 : 1;
  const int64_t words = (args.count + kElements - 1) / kElements;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  const int64_t whole = aligned_words(args, kElements);

  int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (; i + (kUnroll - 1) * step < whole; i += kUnroll * step) {
    uint4 first[kUnroll], second[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      first[u] = load16(static_cast<const uint4*>(args.parts[0]) + i + u * step);
      second[u] = load16(static_cast<const uint4*>(args.parts[1]) + i + u * step);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      Lanes<T, Op, 16> sum;
      sum.set(first[u]);
      sum.combine(second[u]);
      for (int p = 2; p < args.ranks && kLanes > 2; ++p)
        sum.combine(load16(static_cast<const uint4*>(args.parts[p]) + i + u * step));
      store16(static_cast<uint4*>(args.out) + i + u * step,
              sum.template get<uint4>(args.average, args.ranks));
    }
  }
  for (; i < words; i += step) {
    Lanes<T, Op, 16> sum;
    sum.set(load_word<uint4, T>(args.parts[0], i, args.count));
    for (int p = 1; p < args.ranks; ++p)
      sum.combine(load_word<uint4, T>(args.parts[p], i, args.count));
    store_word<uint4, T>(args.out, i, args.count,
                         sum.template get<uint4>(args.average, args.ranks));
  }
}

}  // namespace vt::collectives::gpu::copy_engine
