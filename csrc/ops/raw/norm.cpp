// Layer norm and RMS norm below autograd, alone and behind a residual sum, and their gradients.
#include "device/generator.h"
#include "ops/raw/dense.h"

namespace vt::raw {
namespace {

void check_affine(const char* op, const Tensor& input, const Tensor& parameter, int64_t n) {
  if (!parameter.defined()) return;
  check_same_device(op, input, parameter);
  VT_CHECK(parameter.numel() == n, kRuntime, op, ": expected ", n,
           " elements in the weight or bias, got ", parameter);
  VT_CHECK(parameter.dtype() == input.dtype(), kRuntime, op,
           ": expected input and parameters of one dtype, got ", input, " and ", parameter);
}

Tensor rows(const Tensor& t, int64_t n) {
  return t.defined() ? raw::view(dense(t), Dims{n == 0 ? 0 : t.numel() / n, n}) : t;
}
Tensor flat(const Tensor& t) { return t.defined() ? raw::view(dense(t), Dims{t.numel()}) : t; }

void check_residual(const char* op, const Tensor& input, const Tensor& residual) {
  check_same_device(op, input, residual);
  VT_CHECK(residual.sizes() == input.sizes() && residual.dtype() == input.dtype(), kRuntime, op,
           ": expected input and residual of one shape and dtype, got ", input, " and ", residual);
}

// What is dropped of the input first; where the random numbers began is noted in `begun`.
struct Dropped {
  Tensor begun;
  double p;
};

struct Normed {
  Tensor out, sum, mean, rstd;
};

Normed normed(const char* op, const Tensor& input, const Tensor& residual, const Tensor& weight,
              const Tensor& bias, int64_t n, double eps, bool centred,
              const Dropped* dropped = nullptr) {
  check_float(op, input);
  check_affine(op, input, weight, n);
  check_affine(op, input, bias, n);
  const Tensor x = dense(input);
  const Dims statistics{n == 0 ? 0 : x.numel() / n};
  Normed result{empty_like(x), residual.defined() ? empty_like(x) : Tensor(),
                centred ? empty(statistics, statistics_type(x), x.device()) : Tensor(),
                empty(statistics, statistics_type(x), x.device())};
  if (x.numel() > 0 && dropped)
    kernels(x.device())
        .dropout_norm(rows(result.out, n), rows(result.sum, n), dropped->begun, result.mean,
                      result.rstd, rows(x, n), rows(residual, n), flat(weight), flat(bias), eps,
                      dropped->p, reserve_random(x.device(), (x.numel() + 7) / 8));
  else if (x.numel() > 0)
    kernels(x.device())
        .norm(rows(result.out, n), rows(result.sum, n), result.mean, result.rstd, rows(x, n),
              rows(residual, n), flat(weight), flat(bias), eps);
  return result;
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> layer_norm_rows(const Tensor& input, const Tensor& weight,
                                                   const Tensor& bias, int64_t n, double eps) {
  Normed r = normed("layer_norm", input, Tensor(), weight, bias, n, eps, true);
  return {std::move(r.out), std::move(r.mean), std::move(r.rstd)};
}

std::tuple<Tensor, Tensor> rms_norm_rows(const Tensor& input, const Tensor& weight, int64_t n,
                                         double eps) {
  Normed r = normed("rms_norm", input, Tensor(), weight, Tensor(), n, eps, false);
  return {std::move(r.out), std::move(r.rstd)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> add_norm_rows(const Tensor& input,
                                                         const Tensor& residual,
                                                         const Tensor& weight, const Tensor& bias,
                                                         int64_t n, double eps, bool centred) {
  const char* op = centred ? "add_layer_norm" : "add_rms_norm";
  check_residual(op, input, residual);
  Normed r = normed(op, input, residual, weight, bias, n, eps, centred);
  return {std::move(r.out), std::move(r.sum), std::move(r.mean), std::move(r.rstd)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> dropout_add_norm_rows(
    const Tensor& input, const Tensor& residual, const Tensor& weight, const Tensor& bias,
    int64_t n, double eps, bool centred, double p) {
  const char* op = centred ? "add_layer_norm" : "add_rms_norm";
  check_residual(op, input, residual);
  const Tensor begun = empty(Dims{2}, DType::kI64, input.device());
  const Dropped dropped{begun, p};
  Normed r = normed(op, input, residual, weight, bias, n, eps, centred, &dropped);
  return {std::move(r.out), std::move(r.sum), std::move(r.mean), std::move(r.rstd), begun};
}

Tensor norm_rows_backward(const Tensor& grad_output, const Tensor& extra, const Tensor& input,
                          const Tensor& mean, const Tensor& rstd, const Tensor& weight,
                          const Tensor& dweight, const Tensor& dbias) {
  const int64_t count = rstd.numel(), n = count == 0 ? 0 : input.numel() / count;
  Tensor dx = empty_like(input);
  if (dx.numel() > 0)
    kernels(input.device())
        .norm_backward(rows(dx, n), flat(dweight), flat(dbias), Tensor(), rows(grad_output, n),
                       rows(extra, n), rows(input, n), mean, rstd, flat(weight));
  return dx;
}

std::tuple<Tensor, Tensor> dropout_norm_rows_backward(const Tensor& grad_output,
                                                      const Tensor& extra, const Tensor& input,
                                                      const Tensor& mean, const Tensor& rstd,
                                                      const Tensor& weight, const Tensor& dweight,
                                                      const Tensor& dbias, const Tensor& begun,
                                                      double p) {
  const int64_t count = rstd.numel(), n = count == 0 ? 0 : input.numel() / count;
  Tensor dx = empty_like(input), dropped = empty_like(input);
  if (dx.numel() > 0)
    kernels(input.device())
        .dropout_norm_backward(rows(dx, n), rows(dropped, n), flat(dweight), flat(dbias), begun,
                               rows(grad_output, n), rows(extra, n), rows(input, n), mean, rstd,
                               flat(weight), p);
  return {dx, dropped};
}

}  // namespace vt::raw
