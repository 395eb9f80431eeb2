// One-shot all-reduce by packets, for small messages: each rank sends its whole input to all
// others, data and flag in one store, and reduces what arrives. No barrier: a packet that carries
// the epoch is complete by itself.
#pragma once
#include "collectives/cuda/algorithms/packet.h"
#include "collectives/cuda/vector.cuh"
#include "fabric/cuda/signal.cuh"

namespace vt::collectives::gpu::packets {

// Note [Packet mailboxes]
// A mailbox has two halves, used in turn by the parity of the block's epoch. A rank that writes
// epoch e has finished epoch e-1, for which it had packets from every peer; a peer sends those
// after it has read all packets of e-2. So the half of e-2 is free, without a barrier. This holds
// because every block that runs has at least one packet.

__device__ inline void send(Packet* to, uint64_t data, uint32_t epoch) {
  const uint64_t flag = static_cast<uint64_t>(epoch) << 32;
  const uint64_t low = flag | (data & 0xffffffffu), high = flag | (data >> 32);
  asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(low), "l"(high)
               : "memory");
}

__device__ inline void load(const Packet* from, uint64_t& low, uint64_t& high) {
  asm volatile("ld.relaxed.sys.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(low), "=l"(high)
               : "l"(from)
               : "memory");
}

// Each half is one 8-byte access, so a half with the right epoch has the right data.
__device__ inline bool complete(uint64_t low, uint64_t high, uint32_t epoch) {
  return static_cast<uint32_t>(low >> 32) == epoch && static_cast<uint32_t>(high >> 32) == epoch;
}

// The i-th packet of every rank, own data where it is the own one: the ranks' loads are on their
// way together. kLanes is the number of ranks rounded up to 2, 4 or 8. False when a peer did not
// send.
template <int kLanes>
__device__ inline bool receive_all(const Clique& clique, const Packet* from, int64_t step,
                                   uint32_t epoch, uint64_t (&data)[kLanes]) {
  uint32_t missing = ((1u << clique.ranks) - 1) & ~(1u << fabric::own_rank(clique));
  fabric::Deadline deadline(clique, fabric::Phase::kPacket, 0);
  while (true) {
    uint64_t low[kLanes], high[kLanes];
#pragma unroll
    for (int p = 0; p < kLanes; ++p)
      if (missing >> p & 1) load(from + p * step, low[p], high[p]);
#pragma unroll
    for (int p = 0; p < kLanes; ++p)
      if (missing >> p & 1 && complete(low[p], high[p], epoch)) {
        data[p] = (low[p] & 0xffffffffu) | (high[p] << 32);
        missing &= ~(1u << p);
      }
    if (missing == 0) return true;
    if (deadline.passed(__ffs(static_cast<int>(missing)) - 1)) return false;
  }
}

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
  // [ranks][stretch] of this epoch in everybody's mailbox, at the place of this block
  const int64_t half = (epoch & 1) * ranks * args.stretch + blockIdx.x * args.room;

  for (int64_t i = threadIdx.x; i < mine; i += blockDim.x) {
    const uint64_t data = load_word<uint64_t, T>(in, first + i, args.count);
    for (int k = 1; k < ranks; ++k) {
      const int peer = rank + k < ranks ? rank + k : rank + k - ranks;
      send(args.boxes[peer] + half + rank * args.stretch + i, data, epoch);
    }
  }
  __syncthreads();  // all have read it
  if (threadIdx.x == 0) done = epoch;

  bool here = true;
  for (int64_t i = threadIdx.x; i < mine && here; i += blockDim.x) {
    uint64_t data[kLanes];
    const uint64_t own = load_word<uint64_t, T>(in, first + i, args.count);
    here = receive_all<kLanes>(clique, args.boxes[rank] + half + i, args.stretch, epoch, data);
    if (!here) break;
    Lanes<T, Op, kPacketBytes> sum;
    sum.set(rank == 0 ? own : data[0]);
#pragma unroll
    for (int p = 1; p < kLanes; ++p)
      if (p < ranks) sum.combine(p == rank ? own : data[p]);
    store_word<uint64_t, T>(out, first + i, args.count,
                            sum.template get<uint64_t>(args.average, ranks));
  }
}

}  // namespace vt::collectives::gpu::packets
