// Softmax, losses, dropout and triangles below autograd.
#include "ops/raw/dense.h"

#include "device/generator.h"

namespace vt::raw {
namespace {}  // namespace

Tensor softmax_kernel(const Tensor& self, int64_t dim, bool log) {
  const char* op = log ? "log_softmax" : "softmax";
  check_float(op, self);
  const int d = wrap_dim(op, dim, self.dim());
  const Tensor x = dense(self);
  Tensor out = empty_like(x);
  if (x.numel() > 0) {
    const bool scalar = x.dim() == 0;
    kernels(x.device())
        .softmax(scalar ? raw::view(out, Dims{1}) : out, scalar ? raw::view(x, Dims{1}) : x, d,
                 log);
  }
  return out;
}

Tensor softmax_backward(const Tensor& grad_output, const Tensor& output, int64_t dim, bool log) {
  const int d = wrap_dim("softmax", dim, output.dim());
  const Tensor grad = dense(raw::to_dtype(grad_output, output.dtype())), out = dense(output);
  Tensor dx = empty_like(out);
  if (out.numel() > 0) {
    const auto shaped = [&](const Tensor& t) { return t.dim() == 0 ? raw::view(t, Dims{1}) : t; };
    kernels(out.device()).softmax_backward(shaped(dx), shaped(grad), shaped(out), d, log);
  }
  return dx;
}

Tensor scaled_softmax(const Tensor& scores, double scale, bool causal) {
  check_float("scaled_softmax", scores);
  VT_CHECK(scores.dim() >= 2, kRuntime, "scaled_softmax: expected [..., rows, columns], got ",
           scores);
  const Tensor x = dense(scores);
  Tensor out = empty_like(x);
  if (x.numel() == 0) return out;
  const int64_t columns = x.sizes().back(), height = x.sizes()[x.dim() - 2];
  const Dims shape{x.numel() / (columns * height), height, columns};
  kernels(x.device()).causal_softmax(raw::view(out, shape), raw::view(x, shape), scale, causal);
  return out;
}

Tensor scaled_softmax_backward(const Tensor& grad_output, const Tensor& output, double scale) {
  const Tensor grad = dense(grad_output), out = dense(output);
  Tensor dx = empty_like(out);
  if (out.numel() == 0) return dx;
  const int64_t columns = out.sizes().back(), height = out.sizes()[out.dim() - 2];
  const Dims shape{out.numel() / (columns * height), height, columns};
  kernels(out.device())
      .causal_softmax_backward(raw::view(dx, shape), raw::view(grad, shape), raw::view(out, shape),
                               scale);
  return dx;
}

static void check_labels(const Tensor& input, const Tensor& target, double label_smoothing) {
  check_float("cross_entropy", input);
  check_same_device("cross_entropy", input, target);
  VT_CHECK(input.dim() == 2 && target.dim() == 1 && input.sizes()[0] == target.sizes()[0], kValue,
           "cross_entropy: expected input batch_size (", input.dim() > 0 ? input.sizes()[0] : 0,
           ") to match target batch_size; got logits ", input, " and target ", target);
  VT_CHECK(target.dtype() == DType::kI64, kRuntime,
           "cross_entropy: expected class indices of int64, got ", target);
  VT_CHECK(label_smoothing >= 0 && label_smoothing <= 1, kRuntime,
           "cross_entropy: label_smoothing must be between 0.0 and 1.0, got ", label_smoothing);
}

std::tuple<Tensor, Tensor> cross_entropy_rows(const Tensor& input, const Tensor& target,
                                              int64_t ignore_index, double label_smoothing) {
  check_labels(input, target, label_smoothing);
  Tensor loss = empty(target.sizes(), statistics_type(input), input.device()),
         logsumexp = empty_like(loss);
  if (loss.numel() > 0)
    kernels(input.device())
        .cross_entropy(loss, logsumexp, dense(input), dense(target), ignore_index, label_smoothing);
  return {loss, logsumexp};
}

std::tuple<Tensor, Tensor> cross_entropy_total(const Tensor& input, const Tensor& target,
                                               int64_t ignore_index, double label_smoothing,
                                               bool mean, bool with_gradient) {
  check_labels(input, target, label_smoothing);
  const Device device = input.device();
  const DType statistics = statistics_type(input);
  const Tensor x = dense(input), labels = dense(target);
  Tensor out = empty(Dims{}, input.dtype(), device), gradient;
  const Tensor loss = empty(target.sizes(), statistics, device),
               rate = empty(Dims{}, statistics, device);
  if (mean) kernels(device).cross_entropy_rate(rate, labels, ignore_index);
  else raw::fill_(rate, Scalar(1.0));
  if (with_gradient) gradient = empty_like(x);
  if (x.numel() == 0) {  // the kernels want classes
    raw::fill_(loss, Scalar(0.0));
  } else if (with_gradient) {
    kernels(device).cross_entropy_both(loss, gradient, rate, x, labels, ignore_index,
                                       label_smoothing);
  } else {
    kernels(device).cross_entropy(loss, empty_like(loss), x, labels, ignore_index, label_smoothing);
  }
  kernels(device).cross_entropy_total(out, loss, rate);
  return {out, gradient};
}

std::tuple<Tensor, Tensor> cross_entropy_both(const Tensor& input, const Tensor& target,
                                              const Tensor& grad_output, int64_t ignore_index,
                                              double label_smoothing, bool in_place) {
  check_labels(input, target, label_smoothing);
  check_same_device("cross_entropy", input, grad_output);
  VT_CHECK(grad_output.sizes() == target.sizes(), kValue,
           "cross_entropy: expected a gradient for each target, got ", grad_output, " and ",
           target);
  VT_CHECK(!in_place || input.is_dense(), kRuntime,
           "cross_entropy: only contiguous logits can become their gradient, got strides ",
           input.strides());
  const Tensor x = dense(input);
  Tensor loss = empty(target.sizes(), statistics_type(x), x.device());
  Tensor gradient = in_place ? alias(input) : empty_like(x);
  if (x.numel() > 0)
    kernels(x.device())
        .cross_entropy_both(loss, gradient, dense(raw::to_dtype(grad_output, loss.dtype())), x,
                            dense(target), ignore_index, label_smoothing);
  if (in_place) input.bump_version();
  return {loss, gradient};
}

Tensor cross_entropy_backward(const Tensor& grad_output, const Tensor& input, const Tensor& target,
                              const Tensor& logsumexp, int64_t ignore_index, double label_smoothing,
                              bool in_place) {
  VT_CHECK(!in_place || input.is_dense(), kRuntime,
           "cross_entropy: only contiguous logits can become their gradient, got strides ",
           input.strides());
  const Tensor x = dense(input);
  Tensor dlogits = in_place ? alias(input) : empty_like(x);
  if (x.numel() > 0)
    kernels(x.device())
        .cross_entropy_backward(dlogits, dense(raw::to_dtype(grad_output, logsumexp.dtype())), x,
                                dense(target), logsumexp, ignore_index, label_smoothing);
  if (in_place) input.bump_version();
  return dlogits;
}

std::tuple<Tensor, Tensor> dropout_drawn(const Tensor& self, double p) {
  check_float("dropout", self);
  VT_CHECK(p >= 0 && p <= 1, kValue, "dropout: probability has to be between 0 and 1, but got ", p);
  const Tensor x = dense(self);
  Tensor out = empty_like(x), begun = empty(Dims{2}, DType::kI64, x.device());
  if (x.numel() > 0)
    kernels(x.device()).dropout(out, begun, x, p, reserve_random(x.device(), (x.numel() + 7) / 8));
  return {out, begun};
}

Tensor dropout_again(const Tensor& self, const Tensor& begun, double p) {
  const Tensor x = dense(self);
  Tensor out = empty_like(x);
  if (x.numel() > 0) kernels(x.device()).dropout_again(out, begun, x, p);
  return out;
}

static Tensor triangle(const char* op, const Tensor& self, int64_t diagonal, bool lower) {
  VT_CHECK(self.dim() >= 2, kRuntime, op, ": input tensor must have at least 2 dimensions, got ",
           self);
  const Tensor x = dense(self);
  Tensor out = empty_like(x);
  if (x.numel() == 0) return out;
  const int64_t columns = x.sizes().back(), height = x.sizes()[x.dim() - 2];
  const Dims shape{x.numel() / (columns * height), height, columns};
  kernels(x.device()).triangle(raw::view(out, shape), raw::view(x, shape), diagonal, lower);
  return out;
}

Tensor tril(const Tensor& self, int64_t diagonal) { return triangle("tril", self, diagonal, true); }
Tensor triu(const Tensor& self, int64_t diagonal) {
  return triangle("triu", self, diagonal, false);
}

}  // namespace vt::raw
