// Matrix products through cuBLASLt.
#pragma once
#include "kernels/types.h"

namespace vt::cuda {

// The whole of `gemm` on the current stream; no size is 0. Nothing is allocated once a shape has
// been seen. False, and nothing done, where cuBLASLt cannot do the bias or the epilogue itself for
// these types and strides.
bool cublaslt_gemm(const Gemm& gemm);

}  // namespace vt::cuda
