// The push pipeline: what the host knows of it.
#pragma once
#include "collectives/cuda/algorithms/direct.h"

namespace vt::collectives::gpu::push {

inline constexpr int kSlots = 4;  // chunks of a peer that a block has room for

struct Args {
  direct::Args buffers;
  char* slots[kMaxCudaRanks];  // [blocks][kSlots][ranks - 1][slot_bytes]
  int64_t slot_bytes;
  int64_t words;  // of 16 bytes, the last one perhaps not full
  int64_t chunk;  // words
  bool aligned;   // all buffers begin at a word
};

const void* kernel(DType dtype, ReduceOp op, int ranks);
// Each group of types is compiled in a file of its own; null if the type is not in the group.
const void* float_kernel(DType dtype, ReduceOp op, int ranks);
const void* integer_kernel(DType dtype, ReduceOp op, int ranks);

bool suits(const Site& site, const Unit& unit);
void run(Site& site, const Unit& unit, const Plan& plan);
void for_each_kernel(void (*f)(const void* kernel));

inline constexpr AlgorithmEntry kAllReduce{Kind::kAllReduce, Algorithm::kPush, suits, run,
                                           for_each_kernel};

}  // namespace vt::collectives::gpu::push
