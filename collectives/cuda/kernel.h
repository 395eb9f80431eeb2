// What a collective kernel is given, and where to find the kernel for a type, a reduction and a
// number of ranks.
#pragma once
#include <cuda_runtime_api.h>

#include "collectives/collective.h"
#include "fabric/cuda/pad.h"

namespace vt::collectives::gpu {

using fabric::Clique;
using fabric::kMaxBlocks;
using fabric::kMaxCudaRanks;

inline constexpr int kThreads = 512;

// Two-shot and broadcast: all ranks' buffers, directly reachable.
struct DirectArgs {
  Clique clique;
  const void* in[kMaxCudaRanks];
  void* out[kMaxCudaRanks];
  int64_t count;  // elements
  int root;       // broadcast only
  bool average;
};

// One packet: 8 bytes of data, each half beside the epoch it belongs to.
struct alignas(16) Packet {
  uint64_t low, high;
};
inline constexpr int kPacketBytes = 8;             // of data
inline constexpr int64_t kPacketsPerBlock = 2048;  // room for one block's packets from one rank

// One-shot by packets: own buffers, and everybody's mailbox.
struct PacketArgs {
  Clique clique;
  const void* in;
  void* out;
  Packet* mailboxes[kMaxCudaRanks];  // [2 parities][kMaxBlocks][ranks][kPacketsPerBlock]
  int64_t count;
  int64_t packets_per_block;
  bool average;
};

constexpr size_t mailbox_bytes(int ranks) {
  return sizeof(Packet) * 2 * kMaxBlocks * kPacketsPerBlock * static_cast<size_t>(ranks);
}

// The kernels; each takes one of the structures above by value.
const void* two_shot_kernel(DType dtype, ReduceOp op, int ranks);
const void* packet_kernel(DType dtype, ReduceOp op);
const void* broadcast_kernel();  // of bytes
const void* barrier_kernel();    // DirectArgs, looks at the clique only

// Calls f(kernel) for every kernel there is, to load them before the first use.
void for_each_kernel(void (*f)(const void* kernel));

// Each group of types is compiled in a file of its own; null if the type is not in the group.
const void* two_shot_float_kernel(DType dtype, ReduceOp op, int ranks);
const void* two_shot_integer_kernel(DType dtype, ReduceOp op, int ranks);
const void* packet_float_kernel(DType dtype, ReduceOp op);
const void* packet_integer_kernel(DType dtype, ReduceOp op);

}  // namespace vt::collectives::gpu
