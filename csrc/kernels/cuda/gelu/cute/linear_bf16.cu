// Products with a bias in bfloat16.
#include "kernels/cuda/gelu/cute/linear.h"

namespace vt::cuda::gelu {

template void launch_linear<BFloat16>(const Queue& queue, const Gemm& gemm);

}  // namespace vt::cuda::gelu
