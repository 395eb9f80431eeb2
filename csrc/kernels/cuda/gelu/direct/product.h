// Products in bfloat16 whose results go from registers to memory: no detour by shared memory, whose
// bandwidth the tensor cores need. GPUs of architecture 9.0.
#pragma once
#include "kernels/cuda/launch.h"

namespace vt::cuda::direct {

// Is `gemm`, whose operands lie as TMA wants them, of whole tiles of columns, and is there a kernel
// for what becomes of it: with a bias, perhaps an addend, with GELU and its slope, or times aux?
bool takes(const Gemm& gemm);

// Carries it out. Where `sums` is not null, it gets four rows of sums of columns for every 128 rows
// of the matrix, as wide as that, of what is not rounded yet.
void launch(const Queue& queue, const Gemm& gemm, float* sums);

}  // namespace vt::cuda::direct
