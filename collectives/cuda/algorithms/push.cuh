// Push pipeline for large all-reduces: each rank reduces one slice. The parts of it are stored into
// its memory by the others, chunk by chunk, and it stores the results into their outputs: only
// stores cross the links, which then carry more than they do for loads.
#pragma once
#include "collectives/cuda/algorithms/push.h"
#include "collectives/cuda/vector.cuh"
#include "fabric/cuda/signal.cuh"

namespace vt::collectives::gpu::push {

// Note [Slots of the pipeline]
// Block b works with block b of the peers, on every gridDim-th chunk of each slice. It sends chunk
// k+1 before it waits for chunk k, so that the link is busy while it waits. It sends k+1 after it
// has had chunk k-1 of every peer, and a peer sends that after it has reduced its chunk k-3: with
// four slots the place of k-3 is free, and no word has to come back. A peer's output may be
// written because the peer has sent its own part of that chunk, which it has read to do so.

template <class T, class Op, int kLanes>
class Pipeline {
 public:
  __device__ explicit Pipeline(const Args& args)
      : args_(args), clique_(args.buffers.clique), rank_(fabric::own_rank(clique_)) {
    whole_ = args.aligned ? args.buffers.count * static_cast<int64_t>(sizeof(T)) / 16 : 0;
  }

  __device__ int64_t slice_begin(int slice) const { return args_.words * slice / ranks(); }

  __device__ void send(int64_t number, int slot) const {
    const T* const in = static_cast<const T*>(args_.buffers.in[rank()]);
    for (int k = 1; k < ranks(); ++k) {
      const int peer = next(k);
      const Range range = chunk_of(peer, number);
      char* const to = place(peer, slot, rank() < peer ? rank() : rank() - 1);
      constexpr int kUnroll = 4;
      const int64_t step = blockDim.x;
      int64_t i = range.begin + threadIdx.x;
      for (; i + (kUnroll - 1) * step < min(range.end, whole_); i += kUnroll * step) {
        uint4 words[kUnroll];
#pragma unroll
        for (int u = 0; u < kUnroll; ++u)
          words[u] = load16(reinterpret_cast<const uint4*>(in) + i + u * step);
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) store16(to + (i + u * step - range.begin) * 16, words[u]);
      }
      for (; i < range.end; i += step)
        store16(to + (i - range.begin) * 16, load_word<uint4, T>(in, i, args_.buffers.count));
    }
  }

  __device__ void reduce(int64_t number, int slot) const {
    constexpr int kUnroll = 8 / kLanes;
    const Range range = chunk_of(rank(), number);
    const int64_t step = blockDim.x;
    const T* const in = static_cast<const T*>(args_.buffers.in[rank()]);
    const char* const parts = place(rank(), slot, 0);
    int64_t i = range.begin + threadIdx.x;
    for (; i + (kUnroll - 1) * step < min(range.end, whole_); i += kUnroll * step) {
      uint4 words[kUnroll][kLanes];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u)
#pragma unroll
        for (int p = 0; p < kLanes; ++p)
          if (p < ranks())
            words[u][p] = p == rank() ? load16(reinterpret_cast<const uint4*>(in) + i + u * step)
                                      : load16(part(parts, p) + (i + u * step - range.begin) * 16);
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const uint4 result = combine(words[u]);
        for (int k = 0; k < ranks(); ++k)
          store16(static_cast<uint4*>(args_.buffers.out[next(k)]) + i + u * step, result);
      }
    }
    for (; i < range.end; i += step) {
      uint4 words[kLanes];
#pragma unroll
      for (int p = 0; p < kLanes; ++p)
        if (p < ranks())
          words[p] = p == rank() ? load_word<uint4, T>(in, i, args_.buffers.count)
                                 : load16(part(parts, p) + (i - range.begin) * 16);
      const uint4 result = combine(words);
      for (int k = 0; k < ranks(); ++k)
        store_word<uint4, T>(args_.buffers.out[next(k)], i, args_.buffers.count, result);
    }
  }

 private:
  struct Range {
    int64_t begin, end;  // words of the buffer
  };
  __device__ int rank() const { return rank_; }
  __device__ int ranks() const { return clique_.ranks; }
  __device__ int next(int k) const {
    return rank() + k < ranks() ? rank() + k : rank() + k - ranks();
  }
  __device__ Range chunk_of(int slice, int64_t number) const {
    const int64_t begin = slice_begin(slice) + number * args_.chunk;
    return {begin, min(begin + args_.chunk, slice_begin(slice + 1))};
  }
  __device__ char* place(int owner, int slot, int part) const {
    const int64_t number = (int64_t{blockIdx.x} * kSlots + slot) * (ranks() - 1) + part;
    return args_.slots[owner] + number * args_.slot_bytes;
  }
  // What rank p has sent, in a slot of ours.
  __device__ const char* part(const char* parts, int p) const {
    return parts + (p < rank() ? p : p - 1) * args_.slot_bytes;
  }
  __device__ uint4 combine(const uint4 (&words)[kLanes]) const {
    Lanes<T, Op, 16> sum;
    sum.set(words[0]);
#pragma unroll
    for (int p = 1; p < kLanes; ++p)
      if (p < ranks()) sum.combine(words[p]);
    return sum.template get<uint4>(args_.buffers.average, ranks());
  }

  const Args& args_;
  const Clique& clique_;
  int rank_;
  int64_t whole_;  // words that can be moved as such
};

template <class T, class Op, int kLanes>
__global__ void __launch_bounds__(kMaxThreads) all_reduce(const __grid_constant__ Args args) {
  const Clique& clique = args.buffers.clique;
  const int rank = fabric::own_rank(clique), ranks = clique.ranks;
  const Pipeline<T, Op, kLanes> pipeline(args);
  fabric::Pad& pad = *clique.pads[rank];
  const uint32_t before = pad.chunk_epoch[blockIdx.x].value;
  const uint32_t passed = pad.barrier_epoch[blockIdx.x].value;
  fabric::count_kernel(clique);
  const int64_t slice = (args.words + ranks - 1) / ranks;
  const int64_t chunks = (slice + args.chunk - 1) / args.chunk;
  const int mine = static_cast<int>((chunks - blockIdx.x + gridDim.x - 1) / gridDim.x);
  const int peer = threadIdx.x;
  const bool watches = peer < ranks && peer != rank;

  const auto send = [&](int k) {
    pipeline.send(blockIdx.x + int64_t{k} * gridDim.x, (before + k) % kSlots);
    __syncthreads();
    if (watches)
      fabric::release_store(&clique.pads[peer]->landed[blockIdx.x][rank].value, before + k + 1);
  };
  send(0);
  for (int k = 0; k < mine; ++k) {
    if (k + 1 < mine) send(k + 1);
    bool here = true;
    if (watches)
      here = fabric::await_flag(clique, &pad.landed[blockIdx.x][peer].value, before + k + 1,
                                fabric::Phase::kChunk, peer);
    if (!__syncthreads_and(here)) return;
    pipeline.reduce(blockIdx.x + int64_t{k} * gridDim.x, (before + k) % kSlots);
  }
  if (!fabric::meet(clique, passed + 1, fabric::Phase::kEnd)) return;
  if (threadIdx.x == 0) {
    pad.barrier_epoch[blockIdx.x].value = passed + 1;
    pad.chunk_epoch[blockIdx.x].value = before + mine;
  }
}

}  // namespace vt::collectives::gpu::push
