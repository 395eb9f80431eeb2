// The passes by name.
#include "fuse/passes.h"

namespace vt::fuse {

const std::vector<PassInfo>& passes() {
  static const std::vector<PassInfo> instance = {
      {kPointwise, "pointwise", "chains of elementwise operators become one generated kernel"},
      {kCasts, "casts", "conversions of type and copies join such chains"},
      {kFills, "fills", "tensors of one number join such chains instead of being written first"},
      {kDeadWork, "dead_work", "what is never read again is not written, or not computed at all"},
      {kReductions, "reductions",
       "sums, means and extremes of rows join chains; sums in another order than by themselves"},
      {kAddNorm, "add_norm", "a sum that is normalised next: one kernel"},
      {kCopies, "copies", "a result that is only copied elsewhere is written there at once"},
      {kLinearAdd, "linear_add",
       "the residual sum in front of a norm in the kernel of the product that is added; rounds "
       "once, not twice"},
      {kLinearGelu, "linear_gelu",
       "GELU (tanh form) in the kernel of the product it is applied to; rounds once, not twice"},
      {kGeluBackward, "gelu_backward",
       "GELU's gradient in the kernel of the product before it; rounds once, not twice"},
      {kGeluSlope, "gelu_slope",
       "the slope of GELU comes with it, for a gradient that is times it; the slope is rounded, in "
       "float16 beside bfloat16"},
      {kColumnSums, "column_sums",
       "sums of the columns of such a product, as the gradient of a bias, come with it; on a GPU "
       "of what is not rounded yet"},
      {kAttentionSums, "attention_sums",
       "sums of attention's gradients over all tokens, as the gradients of biases, come with them, "
       "in another order"},
      {kNormBackwardAdd, "norm_backward_add",
       "a norm's gradient that another is added to: one kernel, which rounds once instead of "
       "twice"},
      {kNormBackwardSum, "norm_backward_sum",
       "the sum of a norm's gradient over its rows, as a bias wants it: in the norm's kernel, "
       "which "
       "sums before it rounds"},
      {kCrossEntropy, "cross_entropy",
       "the losses of rows of logits and their gradient: one pass over the logits"},
      {kLinearCrossEntropy, "linear_cross_entropy",
       "such losses in the kernel of the product that makes the logits, which are not stored and "
       "not rounded; gradients are taken of exponentials and scaled afterwards"},
  };
  return instance;
}

}  // namespace vt::fuse
