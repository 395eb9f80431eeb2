// Reductions made of other operators.
#include "ops/ops.h"

namespace vt {

Tensor max_all(const Tensor& self) { return amax(self, {}, false); }
Tensor min_all(const Tensor& self) { return amin(self, {}, false); }
Tensor max_other(const Tensor& self, const Tensor& other) { return maximum(self, other); }
Tensor min_other(const Tensor& self, const Tensor& other) { return minimum(self, other); }

Tensor std(const Tensor& self, const ::std::optional<Dims>& dim, Scalar correction, bool keepdim) {
  return sqrt(var(self, dim, correction, keepdim));
}

Tensor logsumexp(const Tensor& input, int64_t dim, bool keepdim) {
  const Tensor self = is_float(input.dtype()) ? input : to_dtype(input, DType::kF32);
  const Tensor peak = detach(amax(self, Dims{dim}, true));
  // A row of -inf would give inf - inf: shift such a row by 0.
  const Tensor shift = masked_fill(peak, isinf(peak), Scalar(0));
  const Tensor total = add(log(sum(exp(sub(self, shift, 1)), Dims{dim}, true, {})), shift, 1);
  return keepdim ? total : squeeze_dim(total, dim);
}

Tensor argsort(const Tensor& self, int64_t dim, bool descending) {
  return ::std::get<1>(raw::sort(self, dim, descending));
}

}  // namespace vt
