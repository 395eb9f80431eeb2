// Products with GELU's gradient in bfloat16.
#include "kernels/cuda/gelu/cute/backward.h"

namespace vt::cuda::gelu {

template void launch_backward<BFloat16, kColumns, false>(const Queue& queue, const Gemm& gemm,
                                                         float* sums);

}  // namespace vt::cuda::gelu
