// A product whose logits become a cross-entropy, and rows times numbers.
#include "base/error.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {

void linear_cross_entropy(const Tensor&, const Tensor&, const Gemm& product, const Tensor&,
                          const Tensor&, int64_t) {
  VT_CHECK(false, kNotImplemented, "linear_cross_entropy: no kernel makes logits of ", product.m,
           " x ", product.n, " in ", name(product.dtype), "; ask joins_cross_entropy first");
}

void scale_rows(const Tensor&, const Tensor& x, const Tensor&, const Tensor&) {
  VT_CHECK(false, kNotImplemented, "scale_rows: there is no kernel for ", x,
           "; it comes with linear_cross_entropy only");
}

}  // namespace vt::cuda
