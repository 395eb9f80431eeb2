// Two-phase all-reduce by packets: what the host knows of it.
#pragma once
#include "collectives/cuda/algorithms/packet.h"

namespace vt::collectives::gpu::packets2 {

using packets::kPacketBytes;
using packets::Packet;

// The buffer falls into one slice a rank, all of Args::units packets; what is behind the buffer's
// end counts as zeros. A mailbox: [2 parities][2 phases][ranks][blocks][room]
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
    Kind::kAllReduce, Algorithm::kPackets2, suits, run, for_each_kernel, mailbox};

}  // namespace vt::collectives::gpu::packets2
