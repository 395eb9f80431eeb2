// Two-shot all-reduce: each rank reduces one slice, reading it from all ranks and writing the
// result to all of them. One barrier before (every rank's input is there) and one after (every
// rank's output is complete).
#pragma once
#include "collectives/cuda/algorithms/two_shot.h"
#include "collectives/cuda/vector.cuh"
#include "fabric/cuda/signal.cuh"

namespace vt::collectives::gpu::two_shot {

// How a buffer of `count` elements falls into a part of whole 16-byte words and what is before and
// after it. If the ranks' buffers are aligned differently, there is no such part and all elements
// go one by one.
struct Cut {
  int64_t head;  // elements before the words
  int64_t words;
};

template <class T>
__device__ inline Cut cut(const direct::Args& args) {
  const auto offset = [](const void* p) {
    return static_cast<unsigned>(reinterpret_cast<uintptr_t>(p)) % 16;
  };
  const unsigned first = offset(args.in[0]);
  bool alike = first % sizeof(T) == 0;
  for (int p = 0; p < args.clique.ranks; ++p)
    alike &= offset(args.in[p]) == first && offset(args.out[p]) == first;
  if (!alike) return {args.count, 0};
  const int64_t head = min(args.count, static_cast<int64_t>((16 - first) % 16 / sizeof(T)));
  return {head, (args.count - head) / static_cast<int64_t>(16 / sizeof(T))};
}

// Words [begin, end) of this rank's slice. kLanes is the number of ranks rounded up to 2, 4 or 8:
// that many loads a word are in flight together.
template <class T, class Op, int kLanes>
__device__ void reduce_words(const direct::Args& args, int64_t head, int64_t begin, int64_t end) {
  constexpr int kUnroll = 8 / kLanes;
  const int ranks = args.clique.ranks, rank = fabric::own_rank(args.clique);
  const int64_t first = begin + blockIdx.x * blockDim.x + threadIdx.x,
                step = int64_t{gridDim.x} * blockDim.x;
  const auto in = [&](int p, int64_t i) {
    return static_cast<const char*>(args.in[p]) + head * sizeof(T) + i * 16;
  };
  const auto out = [&](int p, int64_t i) {
    return static_cast<char*>(args.out[p]) + head * sizeof(T) + i * 16;
  };
  for (int64_t i = first; i < end; i += step * kUnroll) {
    uint4 words[kUnroll][kLanes];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u)
#pragma unroll
      for (int p = 0; p < kLanes; ++p)
        if (p < ranks && i + u * step < end) words[u][p] = load16(in(p, i + u * step));
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (i + u * step >= end) break;
      Lanes<T, Op, 16> sum;
      sum.set(words[u][0]);
#pragma unroll
      for (int p = 1; p < kLanes; ++p)
        if (p < ranks) sum.combine(words[u][p]);
      const uint4 result = sum.template get<uint4>(args.average, ranks);
      for (int k = 0; k < ranks;
           ++k)  // every rank starts with another, so that no one's link is everybody's first
        store16(out(rank + k < ranks ? rank + k : rank + k - ranks, i + u * step), result);
    }
  }
}

template <class T, class Op>
__device__ void reduce_elements(const direct::Args& args, int64_t begin, int64_t end) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = begin + blockIdx.x * blockDim.x + threadIdx.x; i < end; i += step) {
    Lanes<T, Op, sizeof(T)> sum;
    sum.set(load_one(static_cast<const T*>(args.in[0]) + i));
    for (int p = 1; p < args.clique.ranks; ++p)
      sum.combine(load_one(static_cast<const T*>(args.in[p]) + i));
    const T result = sum.template get<T>(args.average, args.clique.ranks);
    for (int p = 0; p < args.clique.ranks; ++p) static_cast<T*>(args.out[p])[i] = result;
  }
}

template <class T, class Op, int kLanes>
__global__ void __launch_bounds__(kMaxThreads)
    all_reduce(const __grid_constant__ direct::Args args) {
  const Clique& clique = args.clique;
  const int rank = fabric::own_rank(clique), ranks = clique.ranks;
  uint32_t& passed = clique.pads[rank]->barrier_epoch[blockIdx.x].value;
  const uint32_t epoch = passed;
  fabric::count_kernel(clique);
  if (!fabric::meet(clique, epoch + 1, fabric::Phase::kStart)) return;
  if (threadIdx.x == 0) passed = epoch + 2;
  const Cut part = cut<T>(args);
  reduce_words<T, Op, kLanes>(args, part.head, part.words * rank / ranks,
                              part.words * (rank + 1) / ranks);
  reduce_elements<T, Op>(args, part.head * rank / ranks, part.head * (rank + 1) / ranks);
  if (rank == ranks - 1)
    reduce_elements<T, Op>(args, part.head + part.words * static_cast<int64_t>(16 / sizeof(T)),
                           args.count);
  fabric::meet(clique, epoch + 2, fabric::Phase::kEnd);
}

}  // namespace vt::collectives::gpu::two_shot
