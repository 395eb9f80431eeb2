// Products times GELU's slope in bfloat16, in wide tiles.
#include "kernels/cuda/gelu/cute/backward.h"

namespace vt::cuda::gelu {

template void launch_backward<BFloat16, kManyColumns, true>(const Queue& queue, const Gemm& gemm,
                                                            float* sums);

}  // namespace vt::cuda::gelu
