// One-shot all-reduce by packets: what the host knows of it.
#pragma once
#include "collectives/cuda/algorithms/mailboxes.h"

namespace vt::collectives::gpu::packets {

// One packet: 8 bytes of data, each half beside the epoch it belongs to.
struct alignas(16) Packet {
  uint64_t low, high;
};
inline constexpr int kPacketBytes = 8;  // of data

// A mailbox: [2 parities][ranks][blocks][room]
using Args = mailboxes::Args<Packet>;

const void* kernel(DType dtype, ReduceOp op, int ranks);
// Each group of types is compiled in a file of its own; null if the type is not in the group.
const void* float_kernel(DType dtype, ReduceOp op, int ranks);
const void* integer_kernel(DType dtype, ReduceOp op, int ranks);

bool suits(const Site& site, const Unit& unit);
void run(Site& site, const Unit& unit, const Plan& plan);
void for_each_kernel(void (*f)(const void* kernel));
size_t mailbox(const Mesh& mesh);

inline constexpr AlgorithmEntry kAllReduce{
    Kind::kAllReduce, Algorithm::kPackets, suits, run, for_each_kernel, mailbox};

}  // namespace vt::collectives::gpu::packets
