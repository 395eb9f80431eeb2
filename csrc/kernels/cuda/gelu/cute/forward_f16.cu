// Products with GELU in float16.
#include "kernels/cuda/gelu/cute/forward.h"

namespace vt::cuda::gelu {

template void launch_forward<Half, kColumns, false>(const Queue& queue, const Gemm& gemm);

}  // namespace vt::cuda::gelu
