// The structured kernels that patterns know: their arguments as they were recorded. Tensors here
// are handles that keep nothing alive.
#pragma once
#include <variant>

#include "kernels/types.h"

namespace vt::fuse {

struct NormCall {
  Tensor out, sum, mean, rstd, x, residual, weight, bias;
  double eps;
};
struct NormBackwardCall {
  Tensor dx, dweight, dbias, dx_sum, grad, extra, x, mean, rstd, weight;
};
struct ReduceCall {
  Tensor out, x;
  ReduceKind kind;
  uint32_t dims;
};
struct CrossEntropyCall {
  Tensor loss, logsumexp, logits, target;
  int64_t ignore_index;
  double label_smoothing;
};
// Behind a CrossEntropyCall of the same rows; with `loss` also that call's work, in one pass.
struct CrossEntropyBackwardCall {
  Tensor loss, dlogits, grad, logits, target, logsumexp;
  int64_t ignore_index;
  double label_smoothing;
};
// How much each row counts in a mean, the mean, and the gradient of it where it is not 1.
struct CrossEntropyRateCall {
  Tensor rate, target;
  int64_t ignore_index;
};
struct CrossEntropyTotalCall {
  Tensor out, loss, rate;
};
struct ScaleUnlessOneCall {
  Tensor x, factor;
};
// The product of the logits with a CrossEntropyBackwardCall that has a loss.
struct LinearCrossEntropyCall {
  Tensor loss, scale;
  Gemm product;
  Tensor grad, target;
  int64_t ignore_index;
};
struct ScaleRowsCall {
  Tensor out, x, scale, factor;
};
// An Attention is its gradients.
using Call =
    std::variant<std::monostate, Gemm, Attention, NormCall, NormBackwardCall, ReduceCall,
                 CrossEntropyCall, CrossEntropyBackwardCall, CrossEntropyRateCall,
                 CrossEntropyTotalCall, ScaleUnlessOneCall, LinearCrossEntropyCall, ScaleRowsCall>;

}  // namespace vt::fuse
