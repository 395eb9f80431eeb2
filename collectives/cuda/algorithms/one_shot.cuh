// One-shot all-reduce: each rank copies its input to where all can read it; after one barrier each
// reads all copies and reduces. Two halves of the memory, used in turn, make a second barrier
// unnecessary, as in Note [Packet mailboxes].
#pragma once
#include "collectives/cuda/algorithms/one_shot.h"
#include "collectives/cuda/vector.cuh"
#include "fabric/cuda/signal.cuh"

namespace vt::collectives::gpu::one_shot {

template <class T, class Op, int kLanes>
__global__ void __launch_bounds__(kMaxThreads) all_reduce(const __grid_constant__ Args args) {
  const Clique& clique = args.clique;
  const int rank = fabric::own_rank(clique), ranks = clique.ranks;
  const void* const in = args.in[rank];
  void* const out = args.out[rank];
  fabric::follow_previous_kernel();
  fabric::count_kernel(clique);
  uint32_t& passed = clique.pads[rank]->barrier_epoch[blockIdx.x].value;
  uint32_t& done = clique.pads[rank]->packet_epoch[blockIdx.x].value;
  const uint32_t epoch = passed + 1, exchange = done + 1;
  const int64_t first = blockIdx.x * args.per_block;
  const int64_t mine = min(args.per_block, args.units - first);
  const int64_t half = (exchange & 1) * args.stretch + blockIdx.x * args.room;

  for (int64_t i = threadIdx.x; i < mine; i += blockDim.x)
    store16(args.boxes[rank] + half + i, load_word<uint4, T>(in, first + i, args.count));
  if (!fabric::meet(clique, epoch, fabric::Phase::kPacket)) return;
  if (threadIdx.x == 0) {
    passed = epoch;
    done = exchange;
  }
  for (int64_t i = threadIdx.x; i < mine; i += blockDim.x) {
    uint4 words[kLanes];
#pragma unroll
    for (int p = 0; p < kLanes; ++p)
      if (p < ranks) words[p] = load16(args.boxes[p] + half + i);
    Lanes<T, Op, 16> sum;
    sum.set(words[0]);
#pragma unroll
    for (int p = 1; p < kLanes; ++p)
      if (p < ranks) sum.combine(words[p]);
    store_word<uint4, T>(out, first + i, args.count, sum.template get<uint4>(args.average, ranks));
  }
}

}  // namespace vt::collectives::gpu::one_shot
