// Two-shot all-reduce: what the host knows of it.
#pragma once
#include "collectives/cuda/algorithms/direct.h"

namespace vt::collectives::gpu::two_shot {

// The kernels take direct::Args.
const void* kernel(DType dtype, ReduceOp op, int ranks);
// Each group of types is compiled in a file of its own; null if the type is not in the group.
const void* float_kernel(DType dtype, ReduceOp op, int ranks);
const void* integer_kernel(DType dtype, ReduceOp op, int ranks);

// Of buffers that all devices reach.
void run_piece(const Site& site, direct::Args& args, size_t bytes, DType dtype, ReduceOp op,
               const Plan& plan);
void run(Site& site, const Unit& unit, const Plan& plan);
void for_each_kernel(void (*f)(const void* kernel));

inline constexpr AlgorithmEntry kAllReduce{Kind::kAllReduce, Algorithm::kTwoShot, always, run,
                                           for_each_kernel};

}  // namespace vt::collectives::gpu::two_shot
