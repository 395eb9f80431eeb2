// Whether a product on a GPU should add another matrix, or make GELU and its slope, in its kernel.
#pragma once
#include "kernels/types.h"

namespace vt {

// Is `gemm`, which has an addend, carried out by a kernel made for that? Elsewhere a kernel behind
// it that reads both adds at less cost.
bool adds_in_kernel(const Gemm& gemm);

// The same of GELU with kGeluSlope, whose aux need not be known. Elsewhere the slope is a kernel of
// its own, which costs more than it saves.
bool makes_slope_in_kernel(const Gemm& gemm);

}  // namespace vt
