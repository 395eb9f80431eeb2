// One-shot all-reduce: what the host knows of it.
#pragma once
#include <vector_types.h>

#include "collectives/cuda/algorithms/mailboxes.h"

namespace vt::collectives::gpu::one_shot {

// A mailbox, the rank's copy of its own input: [2 parities][blocks][room]
using Args = mailboxes::Args<uint4>;

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
