// Optimizer updates over flat arrays, and the norm that gradient clipping needs. Each element is touched once.
#include <cmath>

#include "device/cpu/parallel.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {
namespace {

constexpr int64_t kGrain = 8192;

template <class C>
C read_scale(const Tensor& scale) {
  return scale.defined() ? static_cast<C>(*scale.data<float>()) : C(1);
}

// Calls f(tag) with the parameter's type; the state is in its compute type.
template <class F>
void visit_update(const char* op, const Tensor& param, F&& f) {
  visit_float(op, param.dtype(), std::forward<F>(f));
}

}  // namespace

void adamw(const Tensor& param, const Tensor& grad, const Tensor& exp_avg, const Tensor& exp_avg_sq, const Tensor& master,
           const Tensor& grad_scale, const AdamWConfig& config) {
  visit_update("adamw_", param, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const double correction1 = 1 - std::pow(config.beta1, static_cast<double>(config.step));
    const double correction2 = 1 - std::pow(config.beta2, static_cast<double>(config.step));
    const C beta2 = static_cast<C>(config.beta2);
    const C rest1 = static_cast<C>(1 - config.beta1), rest2 = static_cast<C>(1 - config.beta2);
    const C decay = static_cast<C>(1 - config.lr * config.weight_decay), eps = static_cast<C>(config.eps);
    const C step_size = static_cast<C>(config.lr / correction1);
    const C root_correction2 = static_cast<C>(std::sqrt(correction2));
    const C scale = read_scale<C>(grad_scale);
    T* p = param.data<T>();
    const T* g = grad.data<T>();
    C* m = exp_avg.data<C>();
    C* v = exp_avg_sq.data<C>();
    C* full = master.defined() ? master.data<C>() : nullptr;
    parallel_for(param.numel(), kGrain, [&](int64_t begin, int64_t end) {
      const auto update = [&](int64_t i, C value) __attribute__((always_inline)) {
        const C gradient = static_cast<C>(g[i]) * scale;
        value *= decay;
        m[i] += (gradient - m[i]) * rest1;
        v[i] = v[i] * beta2 + gradient * gradient * rest2;
        return value - step_size * m[i] / (std::sqrt(v[i]) / root_correction2 + eps);
      };
      if (full) {
#pragma GCC ivdep
        for (int64_t i = begin; i < end; ++i) {
          full[i] = update(i, full[i]);
          p[i] = static_cast<T>(full[i]);
        }
      } else {
#pragma GCC ivdep
        for (int64_t i = begin; i < end; ++i) p[i] = static_cast<T>(update(i, static_cast<C>(p[i])));
      }
    });
  });
}

void sgd(const Tensor& param, const Tensor& grad, const Tensor& momentum, const Tensor& master, const Tensor& grad_scale,
         const SgdConfig& config) {
  visit_update("sgd_", param, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const C lr = static_cast<C>(config.lr), decay = static_cast<C>(config.weight_decay);
    const C mu = static_cast<C>(config.momentum), rest = static_cast<C>(1 - config.dampening);
    const C scale = read_scale<C>(grad_scale);
    const bool nesterov = config.nesterov, first = config.first;
    T* p = param.data<T>();
    const T* g = grad.data<T>();
    C* buffer = config.momentum != 0 ? momentum.data<C>() : nullptr;
    C* full = master.defined() ? master.data<C>() : nullptr;
    parallel_for(param.numel(), kGrain, [&](int64_t begin, int64_t end) {
#pragma GCC ivdep
      for (int64_t i = begin; i < end; ++i) {
        const C value = full ? full[i] : static_cast<C>(p[i]);
        C step = static_cast<C>(g[i]) * scale + decay * value;
        if (buffer) {
          buffer[i] = first ? step : mu * buffer[i] + rest * step;
          step = nesterov ? step + mu * buffer[i] : buffer[i];
        }
        const C updated = value - lr * step;
        if (full) full[i] = updated;
        p[i] = static_cast<T>(updated);
      }
    });
  });
}

void sum_of_squares(const Tensor& out, const Tensor& x) {
  // Blocks of fixed length, summed in order: the result does not depend on the threads.
  constexpr int64_t kBlock = 4096;
  const int64_t n = x.numel(), blocks = (n + kBlock - 1) / kBlock;
  const Tensor partial = empty(Dims{blocks}, DType::kF64, x.device());
  visit_float("sum_of_squares", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const T* from = x.data<T>();
    parallel_for(blocks, 4, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        constexpr int kLanes = 16;
        C lanes[kLanes] = {};
        const int64_t start = b * kBlock, stop = std::min(start + kBlock, n), whole = start + (stop - start) / kLanes * kLanes;
        for (int64_t i = start; i < whole; i += kLanes)
          for (int k = 0; k < kLanes; ++k) lanes[k] += static_cast<C>(from[i + k]) * static_cast<C>(from[i + k]);
        double sum = 0;
        for (int64_t i = whole; i < stop; ++i) sum += static_cast<double>(from[i]) * static_cast<double>(from[i]);
        for (C lane : lanes) sum += static_cast<double>(lane);
        partial.data<double>()[b] = sum;
      }
    });
    double total = 0;
    for (int64_t b = 0; b < blocks; ++b) total += partial.data<double>()[b];
    *out.data<C>() = static_cast<C>(total);
  });
}

}  // namespace vt::cpu::VT_ISA
