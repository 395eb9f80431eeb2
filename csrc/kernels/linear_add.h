// Whether a product on a GPU should add another matrix, make GELU and its slope, or a
// cross-entropy, in its kernel.
#pragma once
#include "kernels/types.h"

namespace vt {

// Is `gemm`, which has an addend, carried out by a kernel made for that? Elsewhere a kernel behind
// it that reads both adds at less cost.
bool adds_in_kernel(const Gemm& gemm);

// The same of GELU with kGeluSlope, whose aux need not be known. Elsewhere the slope is a kernel of
// its own, which costs more than it saves.
bool makes_slope_in_kernel(const Gemm& gemm);

// Does a kernel make the exponentials of these logits and their sums in place of the logits, as
// linear_cross_entropy wants? Only where this is true may that be called on a GPU.
bool joins_cross_entropy(const Gemm& gemm);

}  // namespace vt
