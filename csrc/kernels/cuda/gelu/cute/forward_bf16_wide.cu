// Products with GELU in bfloat16, in wide tiles.
#include "kernels/cuda/gelu/cute/forward.h"

namespace vt::cuda::gelu {

template void launch_forward<BFloat16, kManyColumns, false>(const Queue& queue, const Gemm& gemm);

}  // namespace vt::cuda::gelu
