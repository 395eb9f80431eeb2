// One-shot all-reduce: what the host knows of it.
#pragma once
#include "collectives/cuda/algorithm.h"

namespace vt::collectives::gpu::one_shot {

// Own buffers, and everybody's copy of its input.
struct Args {
  Clique clique;
  const void* in;
  void* out;
  uint4* copies[kMaxCudaRanks];  // [2 parities][blocks][room]
  int64_t count;                 // elements
  int64_t words_per_block;
  int64_t room;     // 16-byte words of one block
  int64_t stretch;  // words of all blocks
  bool average;
};

const void* kernel(DType dtype, ReduceOp op, int ranks);
// Each group of types is compiled in a file of its own; null if the type is not in the group.
const void* float_kernel(DType dtype, ReduceOp op, int ranks);
const void* integer_kernel(DType dtype, ReduceOp op, int ranks);

bool suits(const Site& site, const Unit& unit);
void run(Site& site, const Unit& unit, const Plan& plan);
void for_each_kernel(void (*f)(const void* kernel));
size_t mailbox(const Mesh& mesh);

inline constexpr AlgorithmEntry kAllReduce{
    Kind::kAllReduce, Algorithm::kOneShot, suits, run, for_each_kernel, mailbox};

}  // namespace vt::collectives::gpu::one_shot
