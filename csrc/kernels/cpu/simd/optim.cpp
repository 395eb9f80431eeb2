// Optimizer updates of flat tensors in one pass, in the order of operations of torch.optim.
#include <cmath>
#include <limits>

#include "kernels/cpu/simd/rows.h"
#include "kernels/loss_scale.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {
namespace {

constexpr int64_t kRun = 1024;  // elements converted at a time

// Calls f(param, grad, first, count) with runs of the parameters and gradients as the compute type.
// Where there is a master copy it is the parameters, and the 16-bit ones follow it.
template <class T, class F>
void over_parameters(const Tensor& param, const Tensor& grad, const Tensor& master, F&& f) {
  using C = compute_t<T>;
  parallel_for(param.numel(), kRowGrain, [&](int64_t begin, int64_t end) {
    C params[std::is_same_v<C, T> ? 1 : kRun], grads[std::is_same_v<C, T> ? 1 : kRun];
    for (int64_t i = begin; i < end; i += kRun) {
      const int64_t n = std::min(kRun, end - i);
      const C* g = load(grad.data<T>() + i, grads, n);
      T* stored = param.data<T>() + i;
      if constexpr (std::is_same_v<C, T>) {
        C* p = master.defined() ? master.data<C>() + i : stored;
        f(p, g, i, n);
        if (master.defined()) std::memcpy(stored, p, static_cast<size_t>(n) * sizeof(C));
      } else {
        C* p = params;
        if (master.defined()) p = master.data<C>() + i;
        else load(stored, params, n);
        f(p, g, i, n);
        store(stored, p, n);
      }
    }
  });
}

// Zero for what is subnormal. Where gradients stay 0 (a dead unit, a row that is never looked up)
// an average decays to the smallest subnormals and rests there, and arithmetic on those is some
// twenty times slower.
template <class C>
C flushed(C value) {
  return std::abs(value) < std::numeric_limits<C>::min() ? C(0) : value;
}

double scale_of(const Tensor& grad_scale) {
  return grad_scale.defined() ? static_cast<double>(*grad_scale.data<float>()) : 1.0;
}

// Whether an update is to happen, as number `step` of its parameters; else it is counted as
// skipped.
template <class Options>
bool is_due(const UpdateGuard& guard, Options& options) {
  if (guard.found == nullptr) return true;
  if (*guard.found == 0) {
    options.step -= *guard.skipped;
    return true;
  }
  for (int64_t i = 0; i < guard.count; ++i) ++guard.skipped[i];
  return false;
}

// Constants by value and pointers that do not overlap: of anything less the compiler makes a loop
// that looks at run time whether it may use vectors, and finds that it may not.
template <class C>
struct AdamW {
  C scale, decay, beta2, eps, rest1, rest2, step_size, root2;

  static void run(const AdamW k, C* __restrict p, const C* __restrict grads, C* __restrict m,
                  C* __restrict v, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      const C g = grads[i] * k.scale;
      const C average = flushed(m[i] + (g - m[i]) * k.rest1),
              square = flushed(v[i] * k.beta2 + g * g * k.rest2);
      m[i] = average;
      v[i] = square;
      p[i] = p[i] * k.decay - k.step_size * (average / (std::sqrt(square) / k.root2 + k.eps));
    }
  }
};

template <class C>
struct Momentum {
  C scale, lr, decay, old, fresh, ahead, direct;

  // first: the buffer holds nothing yet.
  template <bool first>
  static void run(const Momentum k, C* __restrict p, const C* __restrict grads, C* __restrict b,
                  int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      const C g = grads[i] * k.scale + k.decay * p[i];
      const C moved = flushed(first ? g : b[i] * k.old + k.fresh * g);
      b[i] = moved;
      p[i] -= k.lr * (k.direct * g + k.ahead * moved);
    }
  }
};

}  // namespace

void adamw(const Tensor& param, const Tensor& grad, const Tensor& exp_avg, const Tensor& exp_avg_sq,
           const Tensor& master, const Tensor& grad_scale, const AdamWConfig& given) {
  AdamWOptions config = given;
  if (!is_due(given.guard, config)) return;
  const double correction1 = 1 - std::pow(config.beta1, static_cast<double>(config.step));
  const double correction2 = 1 - std::pow(config.beta2, static_cast<double>(config.step));
  visit_float("adamw_", param.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    AdamW<C> k;
    k.scale = static_cast<C>(scale_of(grad_scale));
    k.decay = static_cast<C>(1 - config.lr * config.weight_decay);
    k.beta2 = static_cast<C>(config.beta2);
    k.eps = static_cast<C>(config.eps);
    k.rest1 = static_cast<C>(1 - config.beta1);
    k.rest2 = static_cast<C>(1 - config.beta2);
    k.step_size = static_cast<C>(config.lr / correction1);
    k.root2 = static_cast<C>(std::sqrt(correction2));
    over_parameters<T>(param, grad, master, [&](C* p, const C* grads, int64_t first, int64_t n) {
      AdamW<C>::run(k, p, grads, exp_avg.data<C>() + first, exp_avg_sq.data<C>() + first, n);
    });
  });
}

void sgd(const Tensor& param, const Tensor& grad, const Tensor& momentum, const Tensor& master,
         const Tensor& grad_scale, const SgdConfig& given) {
  SgdOptions config = given;
  if (!is_due(given.guard, config)) return;
  visit_float("sgd_", param.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const C scale = static_cast<C>(scale_of(grad_scale)), lr = static_cast<C>(config.lr);
    const C decay = static_cast<C>(config.weight_decay), keep = static_cast<C>(config.momentum);
    const C ahead = config.nesterov ? keep : C(1), direct = config.nesterov ? C(1) : C(0);
    const Momentum<C> k{scale, lr,    decay, keep, static_cast<C>(1 - config.dampening),
                        ahead, direct};
    over_parameters<T>(param, grad, master, [&](C* p, const C* grads, int64_t first, int64_t n) {
      if (config.momentum == 0) {
#pragma GCC ivdep
        for (int64_t i = 0; i < n; ++i) p[i] -= lr * (grads[i] * scale + decay * p[i]);
      } else if (config.step == 1) {
        Momentum<C>::template run<true>(k, p, grads, momentum.data<C>() + first, n);
      } else {
        Momentum<C>::template run<false>(k, p, grads, momentum.data<C>() + first, n);
      }
    });
  });
}

void loss_scale(const Tensor& out, const Tensor& state, const Tensor& norm,
                const LossScaleConfig& config) {
  float *const results = out.data<float>(), *const own = state.data<float>();
  float found[3], now[2] = {own[0], own[1]};
  step_loss_scale(found, now, *norm.data<float>(), config);
  std::copy_n(found, 3, results);
  std::copy_n(now, 2, own);
}

}  // namespace vt::cpu::VT_ISA
