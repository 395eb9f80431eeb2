// A linear layer with GELU: in one product, and its backward.
#include "autograd/formulas.h"
#include "autograd/grad_mode.h"
#include "fuse/gelu_slope.h"
#include "ops/ops.h"

namespace vt {

Tensor linear_gelu(const Tensor& input, const Tensor& weight, const Tensor& bias) {
  const bool recorded =
      grad_enabled() && (input.requires_grad() || weight.requires_grad() || bias.requires_grad());
  if (recorded && fuse::joins_gelu()) return gelu(linear(input, weight, bias), "tanh");
  return linear_gelu_rows(input, weight, bias, recorded);
}

bool keeps_slope(const Tensor& input, std::string_view approximate) {
  return grad_enabled() && input.requires_grad() && approximate == "tanh" &&
         fuse::makes_gelu_slope(input);
}

std::array<Tensor, 3> linear_gelu_backward(const Tensor& grad, const Tensor& input,
                                           const Tensor& weight, const Tensor& bias,
                                           const Tensor& pre, std::array<bool, 3> needs) {
  const Tensor inner = grad_enabled() ? linear(input, weight, bias) : pre;
  return linear_backward(gelu_backward(grad, inner, "tanh"), input, weight, TensorMeta(bias),
                         needs);
}

}  // namespace vt
