// Products with GELU's gradient in float16.
#include "kernels/cuda/gelu/cute/backward.h"

namespace vt::cuda::gelu {

template void launch_backward<Half, kColumns, false>(const Queue& queue, const Gemm& gemm,
                                                     float* sums);

}  // namespace vt::cuda::gelu
