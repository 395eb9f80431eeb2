// Without CUTLASS's headers there are no such kernels: products with GELU go to cuBLASLt.
#include "kernels/cuda/gelu/product.h"

#include "base/error.h"
#include "kernels/linear_add.h"
#include "kernels/settings.h"

namespace vt::cuda {

bool gelu_product(const Gemm&) { return false; }
bool linear_product(const Gemm&) { return false; }
RowSums row_sums_of(const Gemm&) { return {0, 0}; }
void exponential_product(const Queue&, const Gemm&, const float*, float*) {
  VT_CHECK(false, kNotImplemented, "linear_cross_entropy: this build has no kernels of CUTLASS's");
}

}  // namespace vt::cuda

namespace vt {

bool has_gelu_products() { return false; }
bool adds_in_kernel(const Gemm&) { return false; }
bool makes_slope_in_kernel(const Gemm&) { return false; }
bool joins_cross_entropy(const Gemm&) { return false; }

}  // namespace vt
