// Float32 products on tensor cores, each number in three bfloat16 pieces.
#pragma once
#include "kernels/types.h"

namespace vt::cuda {

// False where it does not take the product: another type, lines that are not whole or not aligned,
// or too little work to gain by it. Sets row_sums where it makes gemm.row_sums, too.
bool split_gemm(const Gemm& gemm, bool& row_sums);

}  // namespace vt::cuda
