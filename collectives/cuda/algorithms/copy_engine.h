// Large reductions and broadcasts by copy engines: what the host knows of them.
#pragma once
#include "collectives/cuda/algorithms/direct.h"

namespace vt::collectives::gpu::copy_engine {

// Note [Copies without waiting for peers]
// A rank's copy engine brings what the rank is in charge of, piece by piece, from all others into
// its scratch memory; a kernel adds each piece up, and the engine takes the sum to whoever wants
// it. All of this is queued on the rank's own device, and only waits for work there: no device
// waits for another but in the meetings of all ranks before the first copy and after the last one,
// which have deadlines. Nobody else reads a piece that is overwritten by its sum. After a meeting
// that somebody missed the copies are made all the same: the outputs are lost then, and may change
// until reset() has returned.

// One rank adds up one piece: no kernel waits, the streams do.
struct Args {
  const void* parts[kMaxCudaRanks];  // of each rank: own input, or what was brought from it
  void* out;
  int64_t count;  // elements
  int ranks;
  bool average;
};

const void* kernel(DType dtype, ReduceOp op, int ranks);
// Each group of types is compiled in a file of its own; null if the type is not in the group.
const void* float_kernel(DType dtype, ReduceOp op, int ranks);
const void* integer_kernel(DType dtype, ReduceOp op, int ranks);
// The same, for blocks of one warp that have room beside others.
const void* kernel_aside(DType dtype, ReduceOp op, int ranks);
const void* float_kernel_aside(DType dtype, ReduceOp op, int ranks);
const void* integer_kernel_aside(DType dtype, ReduceOp op, int ranks);

bool suits(const Site& site, const Unit& unit);
bool wants_large_scratch(const Site& site, const Unit& unit);
bool suits_broadcast(const Site& site, const Unit& unit);
void all_reduce(Site& site, const Unit& unit, const Plan& plan);
void reduce_scatter(Site& site, const Unit& unit, const Plan& plan);
void reduce(Site& site, const Unit& unit, const Plan& plan);
void broadcast(Site& site, const Unit& unit, const Plan& plan);
void for_each_kernel(void (*f)(const void* kernel));
void no_kernel(void (*f)(const void* kernel));

constexpr AlgorithmEntry entry(Kind kind, void (*run)(Site&, const Unit&, const Plan&)) {
  return {kind, Algorithm::kCopyEngine, suits, run, for_each_kernel, nullptr,
          true, wants_large_scratch};
}
inline constexpr AlgorithmEntry kAllReduce = entry(Kind::kAllReduce, all_reduce);
inline constexpr AlgorithmEntry kReduceScatter = entry(Kind::kReduceScatter, reduce_scatter);
inline constexpr AlgorithmEntry kReduce = entry(Kind::kReduce, reduce);
inline constexpr AlgorithmEntry kBroadcast{
    Kind::kBroadcast, Algorithm::kCopyEngine, suits_broadcast, broadcast, no_kernel, nullptr, true};

}  // namespace vt::collectives::gpu::copy_engine
