// The kinds that move or reduce whole parts: reduce_scatter, all_gather, reduce, all_to_all,
// gather, scatter and sendrecv (Note [Parts]). What the host knows of their kernels.
#pragma once
#include "collectives/cuda/algorithm.h"
#include "collectives/cuda/algorithms/line.h"
#include "collectives/cuda/algorithms/packet.h"

namespace vt::collectives::gpu::parts {

// Note [Ways to send a part]
// Directly: the ranks meet, each stores its parts into the outputs of the others (or loads what it
// reduces from their inputs), and they meet again. Wants tensors that the peers reach.
// Through scratch memory: each stores its parts into the receivers' scratch memory, piece by piece
// and block by block; the receiver's block takes a piece from there while the next one comes. Any
// tensors will do.
// By copy engines, for large parts: between two meetings, each rank's engine copies its parts to
// the others (Note [Copies without waiting for peers]).
// By packets, for small parts: data and flag in one store, without a barrier. By lines, the same
// with one flag for 128 bytes, where Note [Whole lines] holds.

inline constexpr int kThreads = 512;
inline constexpr int kPacketBlocks = 64;

// Packets of a block from one rank in a mailbox: so that those of all blocks from all others are
// about a MiB, from where on two meetings cost less than the flags.
constexpr int packet_room(int ranks) {
  return (1 << 20) / packets::kPacketBytes / kPacketBlocks / (ranks > 1 ? ranks - 1 : 1);
}

// The same for lines and two MiB.
constexpr int line_room(int ranks) {
  return (2 << 20) / lines::kLineBytes / kPacketBlocks / (ranks > 1 ? ranks - 1 : 1);
}

// A rank's memory for packets, or for lines.
struct Mailbox {
  fabric::Flag epoch[kPacketBlocks];  // exchanges that block b has done; the rank's own
  // [2 parities][ranks][kPacketBlocks][packet_room or line_room] of them follow
  template <class Packet>
  __host__ __device__ Packet* packets() {
    return reinterpret_cast<Packet*>(this + 1);
  }
};

// All ranks' parts: what p gets from rank s comes from in[s] + p * in_step, and goes, where it is
// stored directly, to out[p] + s * out_step.
struct Args {
  Clique clique;
  const char* in[kMaxCudaRanks];
  char* out[kMaxCudaRanks];  // null: the rank gets nothing
  int64_t in_step, out_step;
  uint8_t receivers[kMaxCudaRanks];  // by sender: a mask of those it sends to
  uint8_t senders[kMaxCudaRanks];    // and the other way round
  char* scratch[kMaxCudaRanks];      // [2 parities][ranks][blocks][piece] bytes
  Mailbox* mailboxes[kMaxCudaRanks];
  int64_t bytes;  // of a part
  int64_t piece;  // bytes that a block moves at a time through scratch memory
  int packets;    // or lines, that a block sends of each part; none has none
};

// What rank p reduces begins at in[s] + p * in_step of every rank s, and goes to out[p].
struct ReduceArgs {
  Args parts;
  int64_t counts[kMaxCudaRanks];  // by rank: elements to reduce directly
  bool average;
};

const void* move_kernel();
const void* move_by_scratch_kernel();
const void* move_by_packets_kernel(int ranks);
const void* move_by_lines_kernel(int ranks);
const void* reduce_kernel(DType dtype, ReduceOp op, int ranks);
const void* reduce_by_scratch_kernel(DType dtype, ReduceOp op, int ranks);
const void* reduce_by_packets_kernel(DType dtype, ReduceOp op, int ranks);
const void* reduce_by_lines_kernel(DType dtype, ReduceOp op, int ranks);
// Each group of types is compiled in a file of its own; null if the type is not in the group.
const void* reduce_float_kernel(DType dtype, ReduceOp op, int ranks);
const void* reduce_integer_kernel(DType dtype, ReduceOp op, int ranks);
const void* reduce_by_scratch_float_kernel(DType dtype, ReduceOp op, int ranks);
const void* reduce_by_scratch_integer_kernel(DType dtype, ReduceOp op, int ranks);
const void* reduce_by_lines_float_kernel(DType dtype, ReduceOp op, int ranks);
const void* reduce_by_lines_integer_kernel(DType dtype, ReduceOp op, int ranks);
const void* reduce_by_packets_float_kernel(DType dtype, ReduceOp op, int ranks);
const void* reduce_by_packets_integer_kernel(DType dtype, ReduceOp op, int ranks);

// May all devices use every rank's output (of kinds that move), or every input (of those that
// reduce) and the outputs of others, directly?
bool reachable(const Site& site, const Unit& unit);
bool is_small(const Site& site, const Unit& unit);
bool is_large(const Site& site, const Unit& unit);  // enough for copy engines
bool is_large_for_root(const Site& site, const Unit& unit);
bool on_request(const Site& site, const Unit& unit);  // never by itself
bool pair_without_reach(const Site& site, const Unit& unit);
void meet(Site& site);  // all ranks, in a kernel that does nothing else
void move(Site& site, const Unit& unit, const Plan& plan);
void move_by_scratch(Site& site, const Unit& unit, const Plan& plan);
void move_by_packets(Site& site, const Unit& unit, const Plan& plan);
void move_by_lines(Site& site, const Unit& unit, const Plan& plan);
void move_by_copy_engine(Site& site, const Unit& unit, const Plan& plan);
void reduce(Site& site, const Unit& unit, const Plan& plan);
void reduce_where_wanted(Site& site, const Unit& unit, const Plan& plan);
void reduce_by_scratch(Site& site, const Unit& unit, const Plan& plan);
void reduce_by_packets(Site& site, const Unit& unit, const Plan& plan);
void reduce_by_lines(Site& site, const Unit& unit, const Plan& plan);
void each_move(void (*f)(const void* kernel));
void each_reduce(void (*f)(const void* kernel));
void each_packet_move(void (*f)(const void* kernel));
void each_packet_reduce(void (*f)(const void* kernel));
void each_line_move(void (*f)(const void* kernel));
void each_line_reduce(void (*f)(const void* kernel));
// All kinds use those of all_gather.
size_t packet_mailbox(const Mesh& mesh);
size_t line_mailbox(const Mesh& mesh);

constexpr AlgorithmEntry packets_of(Kind kind) {
  if (kind == Kind::kReduceScatter || kind == Kind::kReduce)
    return {kind, Algorithm::kPackets, is_small, reduce_by_packets, each_packet_reduce};
  return {kind,
          Algorithm::kPackets,
          is_small,
          move_by_packets,
          each_packet_move,
          kind == Kind::kAllGather ? packet_mailbox : nullptr};
}
constexpr AlgorithmEntry lines_of(Kind kind) {
  if (kind == Kind::kReduceScatter || kind == Kind::kReduce)
    return {kind, Algorithm::kLines, on_request, reduce_by_lines, each_line_reduce};
  return {kind,          Algorithm::kLines, on_request,
          move_by_lines, each_line_move,    kind == Kind::kAllGather ? line_mailbox : nullptr};
}
// Directly where that is possible, else through scratch memory.
constexpr AlgorithmEntry direct_of(Kind kind) {
  if (kind == Kind::kReduceScatter || kind == Kind::kReduce)
    return {kind, Algorithm::kTwoShot, always, reduce, each_reduce};
  return {kind, Algorithm::kTwoShot, always, move, each_move};
}
constexpr AlgorithmEntry scratch_of(Kind kind) {
  if (kind == Kind::kReduceScatter || kind == Kind::kReduce)
    return {kind, Algorithm::kPush, on_request, reduce_by_scratch, each_reduce};
  return {kind, Algorithm::kPush, on_request, move_by_scratch, each_move};
}
// A pair needs no slices (direct::kBroadcast), so nothing has to be staged.
inline constexpr AlgorithmEntry kScratchBroadcast{Kind::kBroadcast, Algorithm::kPush,
                                                  pair_without_reach, move_by_scratch, each_move};
// The root reads everything from all inputs, without slices.
inline constexpr AlgorithmEntry kOneShotReduce{Kind::kReduce, Algorithm::kOneShot,
                                               is_large_for_root, reduce_where_wanted, each_reduce};
// The root stores everything into all outputs, without slices.
inline constexpr AlgorithmEntry kOneShotBroadcast{Kind::kBroadcast, Algorithm::kOneShot, on_request,
                                                  move, each_move};
constexpr AlgorithmEntry copy_engine_of(Kind kind) {
  return {kind, Algorithm::kCopyEngine, is_large, move_by_copy_engine, each_move, nullptr, true};
}

}  // namespace vt::collectives::gpu::parts
