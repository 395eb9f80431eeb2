// Products in bfloat16 that are the gradient of a layer's input.
#include "kernels/cuda/gelu/cute/linear.h"

namespace vt::cuda::gelu {

template void launch_plain<BFloat16>(const Queue& queue, const Gemm& gemm);

}  // namespace vt::cuda::gelu
