// All-reduce by copy engines: what the host knows of it.
#pragma once
#include "collectives/cuda/algorithms/direct.h"

namespace vt::collectives::gpu::copy_engine {

// One rank adds up one chunk of its slice: no kernel waits, the streams do.
struct Args {
  const void* parts[kMaxCudaRanks];  // of each rank: own input, or what the rank has sent
  void* out;
  int64_t count;  // elements
  int ranks;
  bool average;
};

const void* kernel(DType dtype, ReduceOp op, int ranks);
// Each group of types is compiled in a file of its own; null if the type is not in the group.
const void* float_kernel(DType dtype, ReduceOp op, int ranks);
const void* integer_kernel(DType dtype, ReduceOp op, int ranks);

bool suits(const Site& site, const Unit& unit);
void run(Site& site, const Unit& unit, const Plan& plan);
void for_each_kernel(void (*f)(const void* kernel));

inline constexpr AlgorithmEntry kAllReduce{
    Kind::kAllReduce, Algorithm::kCopyEngine, suits, run, for_each_kernel, nullptr, true};

}  // namespace vt::collectives::gpu::copy_engine
