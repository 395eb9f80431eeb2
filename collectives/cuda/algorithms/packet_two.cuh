// Two-phase all-reduce by packets: each rank sends every other one its part of that one's slice,
// reduces its own slice, and sends the result to all. No barrier; n/2 times less over each link
// than in one shot.
#pragma once
#include "collectives/cuda/algorithms/packet.cuh"
#include "collectives/cuda/algorithms/packet_two.h"

namespace vt::collectives::gpu::packets2 {

// Why a mailbox can be written again: Note [Packet mailboxes]. A block has as many packets in each
// slice, so it hears from every peer.
template <class T, class Op, int kLanes>
__global__ void __launch_bounds__(kMaxThreads) all_reduce(const __grid_constant__ Args args) {
  const Clique& clique = args.clique;
  const int rank = fabric::own_rank(clique), ranks = clique.ranks;
  const void* const in = args.in[rank];
  void* const out = args.out[rank];
  fabric::follow_previous_kernel();
  fabric::count_kernel(clique);
  uint32_t& done = clique.pads[rank]->packet_epoch[blockIdx.x].value;
  const uint32_t epoch = done + 1;
  const int64_t first = blockIdx.x * args.per_block;
  const int64_t mine = min(args.per_block, args.units - first);
  // [2 phases][ranks][stretch] of this epoch in everybody's mailbox, at the place of this block
  const int64_t parts = (epoch & 1) * 2 * ranks * args.stretch + blockIdx.x * args.room;
  const int64_t sums = parts + ranks * args.stretch;
  const auto own = [&](int slice, int64_t i) {
    return load_word<uint64_t, T>(in, slice * args.units + first + i, args.count);
  };
  const auto peer_of = [&](int k) { return rank + k < ranks ? rank + k : rank + k - ranks; };

  for (int k = 1; k < ranks; ++k) {
    const int peer = peer_of(k);
    Packet* const to = args.boxes[peer] + parts + rank * args.stretch;
    for (int64_t i = threadIdx.x; i < mine; i += blockDim.x)
      packets::send(to + i, own(peer, i), epoch);
  }
  __syncthreads();  // all have read it
  if (threadIdx.x == 0) done = epoch;

  bool here = true;
  for (int64_t i = threadIdx.x; i < mine && here; i += blockDim.x) {
    uint64_t data[kLanes];
    const uint64_t part = own(rank, i);
    here = packets::receive_all<kLanes>(clique, args.boxes[rank] + parts + i, args.stretch, epoch,
                                        data);
    if (!here) break;
    Lanes<T, Op, kPacketBytes> sum;
    sum.set(rank == 0 ? part : data[0]);
#pragma unroll
    for (int p = 1; p < kLanes; ++p)
      if (p < ranks) sum.combine(p == rank ? part : data[p]);
    const uint64_t result = sum.template get<uint64_t>(args.average, ranks);
    for (int k = 1; k < ranks; ++k)
      packets::send(args.boxes[peer_of(k)] + sums + rank * args.stretch + i, result, epoch);
    store_word<uint64_t, T>(out, rank * args.units + first + i, args.count, result);
  }

  for (int64_t i = threadIdx.x; i < mine && here; i += blockDim.x) {
    uint64_t data[kLanes];
    here = packets::receive_all<kLanes>(clique, args.boxes[rank] + sums + i, args.stretch, epoch,
                                        data);
    if (!here) break;
#pragma unroll
    for (int p = 0; p < kLanes; ++p)
      if (p < ranks && p != rank)
        store_word<uint64_t, T>(out, p * args.units + first + i, args.count, data[p]);
  }
}

}  // namespace vt::collectives::gpu::packets2
