// Float32 products on tensor cores, each number in three bfloat16 pieces.
#pragma once
#include "kernels/types.h"

namespace vt::cuda {

// False where it does not take the product: another type, lines that are not whole or not aligned,
// or too little work to gain by it.
bool split_gemm(const Gemm& gemm);

}  // namespace vt::cuda
