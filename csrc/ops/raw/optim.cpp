// Optimizer updates over flat tensors, and the norm that gradients are clipped to, in place.
#include <limits>

#include "device/capture.h"
#include "kernels/optim_constants.h"
#include "ops/raw/dense.h"

namespace vt::raw {
namespace {

void check_flat(const char* op, const char* what, const Tensor& param, const Tensor& t,
                DType dtype) {
  if (!t.defined()) return;
  check_same_device(op, param, t);
  VT_CHECK(t.is_dense() && t.numel() == param.numel() && t.dtype() == dtype, kRuntime, op, ": ",
           what, " is ", t, ", expected a dense tensor of ", param.numel(), " elements of ",
           name(dtype));
}

void check_scale(const char* op, const Tensor& param, const Tensor& scale) {
  if (!scale.defined()) return;
  check_same_device(op, param, scale);
  VT_CHECK(scale.numel() == 1 && scale.dtype() == DType::kF32, kRuntime, op, ": grad_scale is ",
           scale, ", expected one float32");
}

DType state_type(const Tensor& param) {
  return param.dtype() == DType::kF64 ? DType::kF64 : DType::kF32;
}

void check_list(const char* op, const std::vector<Tensor>& tensors) {
  VT_CHECK(!tensors.empty(), kValue, op, ": got no tensors");
  check_float(op, tensors[0]);
  for (const Tensor& t : tensors) {
    check_same_device(op, tensors[0], t);
    VT_CHECK(t.dtype() == tensors[0].dtype(), kRuntime, op, ": expected tensors of one type, got ",
             tensors[0], " and ", t);
  }
}

void set_guard(const char* op, const Tensor& param, const Tensor& found_inf, const Tensor& skipped,
               UpdateGuard& guard) {
  VT_CHECK(found_inf.defined() == skipped.defined(), kValue, op,
           ": found_inf and skipped come together");
  if (!found_inf.defined()) return;
  check_same_device(op, param, found_inf);
  check_same_device(op, param, skipped);
  VT_CHECK(found_inf.numel() == 1 && found_inf.dtype() == DType::kF32, kRuntime, op,
           ": found_inf is ", found_inf, ", expected one float32");
  VT_CHECK(skipped.is_dense() && skipped.numel() > 0 && skipped.dtype() == DType::kI32, kRuntime,
           op, ": skipped is ", skipped, ", expected dense int32");
  guard = {found_inf.data<float>(), skipped.data<int32_t>(), skipped.numel()};
}

// While capturing, the constants go where the host can change them: Note [Live values].
template <template <class> class Constants, class Config>
void make_live(const char* op, const Tensor& param, Config& config) {
  Capture* const capture = active_capture(param.device());
  if (VT_LIKELY(capture == nullptr)) return;
  if (config.guard.found != nullptr) {
    const typename Constants<float>::Options options = config;
    config.live = capture->add_value(param.device(), &options, sizeof options).data;
    return;
  }
  visit_float(op, param.dtype(), [&](auto tag) {
    const Constants<compute_t<typename decltype(tag)::type>> constants(config);
    config.live = capture->add_value(param.device(), &constants, sizeof constants).data;
  });
}

}  // namespace

Tensor adamw_(const Tensor& param, const Tensor& grad, const Tensor& exp_avg,
              const Tensor& exp_avg_sq, double lr, double beta1, double beta2, double eps,
              double weight_decay, int64_t step, const Tensor& grad_scale, const Tensor& master,
              const Tensor& found_inf, const Tensor& skipped) {
  const char* op = "adamw_";
  check_float(op, param);
  check_flat(op, "param", param, param, param.dtype());
  check_flat(op, "grad", param, grad, param.dtype());
  check_flat(op, "exp_avg", param, exp_avg, state_type(param));
  check_flat(op, "exp_avg_sq", param, exp_avg_sq, state_type(param));
  check_flat(op, "master", param, master, state_type(param));
  check_scale(op, param, grad_scale);
  VT_CHECK(step >= 1, kValue, op, ": step counts from 1, got ", step);
  AdamWConfig config{{lr, beta1, beta2, eps, weight_decay, step}};
  set_guard(op, param, found_inf, skipped, config.guard);
  make_live<AdamWConstants>(op, param, config);
  if (param.numel() > 0 || config.guard.found)
    kernels(param.device()).adamw(param, grad, exp_avg, exp_avg_sq, master, grad_scale, config);
  for (const Tensor* t : {&param, &exp_avg, &exp_avg_sq}) t->bump_version();
  return param;
}

Tensor sgd_(const Tensor& param, const Tensor& grad, const Tensor& momentum_buffer, double lr,
            double momentum, double dampening, double weight_decay, bool nesterov, int64_t step,
            const Tensor& grad_scale, const Tensor& master, const Tensor& found_inf,
            const Tensor& skipped) {
  const char* op = "sgd_";
  check_float(op, param);
  check_flat(op, "param", param, param, param.dtype());
  check_flat(op, "grad", param, grad, param.dtype());
  check_flat(op, "momentum_buffer", param, momentum_buffer, state_type(param));
  check_flat(op, "master", param, master, state_type(param));
  check_scale(op, param, grad_scale);
  VT_CHECK(momentum == 0 || momentum_buffer.defined(), kValue, op, ": momentum ", momentum,
           " needs a momentum_buffer");
  VT_CHECK(step >= 1, kValue, op, ": step counts from 1, got ", step);
  SgdConfig config{{lr, momentum, dampening, weight_decay, step, nesterov}};
  set_guard(op, param, found_inf, skipped, config.guard);
  make_live<SgdConstants>(op, param, config);
  if (param.numel() > 0 || config.guard.found)
    kernels(param.device()).sgd(param, grad, momentum_buffer, master, grad_scale, config);
  param.bump_version();
  return param;
}

Tensor loss_scale_(const Tensor& state, const Tensor& norm, std::optional<double> clip,
                   double growth, double backoff, double lowest, double highest, int64_t interval) {
  const char* op = "loss_scale_";
  check_same_device(op, state, norm);
  VT_CHECK(state.is_dense() && state.numel() == 2 && state.dtype() == DType::kF32, kRuntime, op,
           ": state is ", state, ", expected two float32, the scale and a count");
  VT_CHECK(norm.numel() == 1 && norm.dtype() == DType::kF32, kRuntime, op, ": norm is ", norm,
           ", expected one float32");
  Tensor out = empty(Dims{3}, DType::kF32, state.device());
  kernels(state.device())
      .loss_scale(out, state, norm,
                  {clip.value_or(std::numeric_limits<double>::infinity()), growth, backoff, lowest,
                   highest, interval});
  state.bump_version();
  return out;
}

Tensor norm_list(const std::vector<Tensor>& tensors) {
  check_list("norm_list", tensors);
  std::vector<Tensor> rows;
  rows.reserve(tensors.size());
  for (const Tensor& t : tensors) rows.push_back(dense(t));
  Tensor out = empty(Dims{}, state_type(tensors[0]), tensors[0].device());
  kernels(out.device()).norm_list(out, rows);
  return out;
}

Tensor clip_list_(const std::vector<Tensor>& tensors, const Tensor& norm, double max_norm) {
  const char* op = "clip_list_";
  check_list(op, tensors);
  check_same_device(op, tensors[0], norm);
  VT_CHECK(norm.numel() == 1 && norm.dtype() == state_type(tensors[0]), kRuntime, op, ": norm is ",
           norm, ", expected one number of ", name(state_type(tensors[0])));
  for (const Tensor& t : tensors)
    VT_CHECK(t.is_dense(), kRuntime, op, ": ", t, " is not contiguous; scale it by itself");
  kernels(norm.device()).clip_list(tensors, norm, max_norm);
  for (const Tensor& t : tensors) t.bump_version();
  return norm;
}

}  // namespace vt::raw
