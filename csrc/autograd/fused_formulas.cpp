// Derivatives of fused layers: layer norm and RMS norm, alone and behind a residual sum, and gated
// activations.
#include "autograd/formulas.h"
#include "autograd/grad_mode.h"
#include "autograd/gradient_place.h"
#include "autograd/variable.h"
#include "kernels/table.h"
#include "ops/ops.h"

namespace vt {
namespace {

// What these gradients are computed by has no derivative, neither for the gradient that comes in
// nor for what was saved.
void check_once_only(const char* op) {
  VT_CHECK(!grad_enabled(), kNotImplemented, op,
           ": the second derivative is not implemented; call backward without create_graph");
}

Tensor zeros_of(const Tensor& t) { return t.defined() ? zeros_like(t, {}, {}) : t; }

// The dropout in front of a residual sum, whose gradient is wanted.
struct Dropped {
  const Tensor& begun;
  double p;
  Tensor gradient;
};

// Gradients of input, weight and bias; `edge` is the weight's. `mean` is undefined for RMS norm,
// `extra` where nothing is added to the input's.
std::array<Tensor, 3> gradients(const char* op, const Tensor& grad, const Tensor& extra,
                                const Tensor& input, const Tensor& weight, const Tensor& bias,
                                const Tensor& mean, const Tensor& rstd, int edge,
                                bool weight_wanted, bool bias_wanted, Dropped* dropped = nullptr) {
  check_once_only(op);
  if (input.numel() == 0) return {zeros_of(input), zeros_of(weight), zeros_of(bias)};
  Tensor dweight, dbias;
  const auto output = [&](int at, const Tensor& parameter) {
    return gradient_output(at, parameter.sizes(), input.dtype(), input.device());
  };
  if (weight_wanted && weight.defined()) dweight = output(edge, weight);
  if (bias_wanted && bias.defined()) dbias = output(edge + 1, bias);
  if (dropped) {
    auto [dx, gradient] = raw::dropout_norm_rows_backward(
        grad, extra, input, mean, rstd, weight, dweight, dbias, dropped->begun, dropped->p);
    dropped->gradient = gradient;
    return {dx, dweight, dbias};
  }
  Tensor dx = raw::norm_rows_backward(grad, extra, input, mean, rstd, weight, dweight, dbias);
  return {dx, dweight, dbias};
}

}  // namespace

std::array<Tensor, 3> layer_norm_backward(const Tensor& grad, const Tensor& input,
                                          const Tensor& weight, const Tensor& bias,
                                          const Tensor& mean, const Tensor& rstd,
                                          std::array<bool, 3> needs) {
  return gradients("layer_norm", grad, Tensor(), input, weight, bias, mean, rstd, 1, needs[1],
                   needs[2]);
}

std::array<Tensor, 2> rms_norm_backward(const Tensor& grad, const Tensor& input,
                                        const Tensor& weight, const Tensor& rstd,
                                        std::array<bool, 2> needs) {
  auto [dx, dweight, none] = gradients("rms_norm", grad, Tensor(), input, weight, Tensor(),
                                       Tensor(), rstd, 1, needs[1], false);
  return {dx, dweight};
}

std::array<Tensor, 4> add_norm_backward(const Tensor& grad, const Tensor& sum_grad,
                                        const Tensor& sum, const Tensor& weight, const Tensor& bias,
                                        const Tensor& mean, const Tensor& rstd,
                                        std::array<bool, 4> needs) {
  const char* op = mean.defined() ? "add_layer_norm" : "add_rms_norm";
  check_once_only(op);
  if (!grad.defined()) {  // only the sum was used
    return {sum_grad, sum_grad, zeros_of(weight), zeros_of(bias)};
  }
  auto [dx, dweight, dbias] =
      gradients(op, grad, sum_grad, sum, weight, bias, mean, rstd, 2, needs[2], needs[3]);
  return {dx, dx, dweight, dbias};
}

std::array<Tensor, 4> dropout_add_norm_backward(const Tensor& grad, const Tensor& sum_grad,
                                                const Tensor& sum, const Tensor& weight,
                                                const Tensor& bias, const Tensor& mean,
                                                const Tensor& rstd, const Tensor& begun, double p,
                                                std::array<bool, 4> needs) {
  if (needs[0] && grad.defined() && sum.numel() > 0) {
    Dropped dropped{begun, p, {}};
    auto [dsum, dweight, dbias] =
        gradients(mean.defined() ? "add_layer_norm" : "add_rms_norm", grad, sum_grad, sum, weight,
                  bias, mean, rstd, 2, needs[2], needs[3], &dropped);
    return {dropped.gradient, dsum, dweight, dbias};
  }
  auto [dsum, same, dweight, dbias] =
      add_norm_backward(grad, sum_grad, sum, weight, bias, mean, rstd, needs);
  return {needs[0] ? raw::dropout_again(dsum, begun, p) : Tensor(), dsum, dweight, dbias};
}

Tensor cross_entropy_gradient(const Tensor& grad, const Tensor& gradient) {
  VT_CHECK(!grad_enabled(), kNotImplemented,
           "cross_entropy: the second derivative is not implemented; call backward without "
           "create_graph");
  VT_CHECK(gradient.defined(), kRuntime,
           "cross_entropy: the loss was computed without its gradient");
  if (graph_kept()) return raw::mul(gradient, grad);
  if (gradient.numel() > 0) kernels(gradient.device()).scale_unless_one(gradient, grad);
  return gradient;
}

Tensor cross_entropy_rows_gradient(const Tensor& grad, const Tensor& logits, const Tensor& target,
                                   const Tensor& logsumexp, int64_t ignore_index,
                                   double label_smoothing) {
  check_once_only("cross_entropy");
  // The node's handle and the one it unpacked for this call.
  constexpr uint32_t kOwn = 2;
  const bool in_place = !graph_kept() && logits.is_dense() && is_held_by(logits, kOwn);
  return raw::cross_entropy_backward(grad, logits, target, logsumexp, ignore_index, label_smoothing,
                                     in_place);
}

std::array<Tensor, 2> gated_gradients(const Tensor& grad, const Tensor& gate, const Tensor& up,
                                      std::string_view activation) {
  check_once_only("gated activation");
  auto [dgate, dup] = raw::gated_backward(grad, gate, up, activation);
  return {dgate, dup};
}

Tensor gated_halves_gradient(const Tensor& grad, const Tensor& input, std::string_view activation) {
  check_once_only("gated activation");
  return raw::gated_halves_backward(grad, input, activation);
}

}  // namespace vt
