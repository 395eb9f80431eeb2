// Softmax cross-entropy of rows of logits with class indices, and its gradient.
#include "kernels/cpu/simd/check_index.h"
#include "kernels/cpu/simd/rows.h"
#include "kernels/math.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {
namespace {

constexpr int64_t kRun = 1024;

template <class C>
double log_sum_exp(const C* x, int64_t n) {
  const C shift = extreme<true>(x, n);
  if (!(shift > -math::kInf)) return static_cast<double>(shift);  // all -inf, or NaN
  C scratch[kRun];
  double total = 0;
  for (int64_t i = 0; i < n; i += kRun) {
    const int64_t count = std::min(kRun, n - i);
#pragma GCC ivdep
    for (int64_t j = 0; j < count; ++j) scratch[j] = math::exp(x[i + j] - shift);
    total += sum(scratch, count);
  }
  return static_cast<double>(shift) + std::log(total);
}

}  // namespace

void cross_entropy(const Tensor& loss, const Tensor& logsumexp, const Tensor& logits,
                   const Tensor& target, int64_t ignore_index, double label_smoothing) {
  const int64_t rows = target.numel(), n = logits.sizes().back();
  const int64_t* classes = target.data<int64_t>();
  check_classes(target, n, ignore_index);
  visit_float("cross_entropy", logits.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    parallel_for(rows, row_grain(n), [&](int64_t begin, int64_t end) {
      const Scratch<T> scratch(n);
      for (int64_t r = begin; r < end; ++r) {
        const C* x = load(logits.data<T>() + r * n, scratch.get(), n);
        const double lse = log_sum_exp(x, n);
        double value = 0;
        if (classes[r] != ignore_index) {
          value = lse - static_cast<double>(x[classes[r]]);
          if (label_smoothing != 0)
            value = (1 - label_smoothing) * value +
                    label_smoothing * (lse - sum(x, n) / static_cast<double>(n));
        }
        loss.data<C>()[r] = static_cast<C>(value);
        logsumexp.data<C>()[r] = static_cast<C>(lse);
      }
    });
  });
}

namespace {

// dst = (softmax - what the label wants) * g; dst may be the row's own memory.
template <class T>
void store_gradient(T* dst, const compute_t<T>* x, compute_t<T>* scratch, int64_t n, int64_t label,
                    compute_t<T> lse, compute_t<T> g, double smoothing) {
  using C = compute_t<T>;
  C* d = target(dst, scratch);
  const C share = static_cast<C>(smoothing / static_cast<double>(n));
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) d[i] = (math::exp(x[i] - lse) - share) * g;
  d[label] -= static_cast<C>(1 - smoothing) * g;
  store(dst, d, n);
}

}  // namespace

void cross_entropy_backward(const Tensor& dlogits, const Tensor& grad, const Tensor& logits,
                            const Tensor& target, const Tensor& logsumexp, int64_t ignore_index,
                            double label_smoothing) {
  const int64_t rows = target.numel(), n = logits.sizes().back();
  const int64_t* classes = target.data<int64_t>();
  visit_float("cross_entropy_backward", logits.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    parallel_for(rows, row_grain(n), [&](int64_t begin, int64_t end) {
      const Scratch<T> from(n), to(n);
      for (int64_t r = begin; r < end; ++r) {
        T* dst = dlogits.data<T>() + r * n;
        if (classes[r] == ignore_index) {
          std::memset(static_cast<void*>(dst), 0, static_cast<size_t>(n) * sizeof(T));
          continue;
        }
        const C* x = load(logits.data<T>() + r * n, from.get(), n);
        store_gradient(dst, x, to.get(), n, classes[r], logsumexp.data<C>()[r], grad.data<C>()[r],
                       label_smoothing);
      }
    });
  });
}

void cross_entropy_both(const Tensor& loss, const Tensor& dlogits, const Tensor& grad,
                        const Tensor& logits, const Tensor& target, int64_t ignore_index,
                        double label_smoothing) {
  const Tensor logsumexp = empty_like(loss);
  cross_entropy(loss, logsumexp, logits, target, ignore_index, label_smoothing);
  const Tensor each =
      grad.numel() == loss.numel() ? grad : view_of(grad, loss.sizes(), Dims{0}, grad.offset());
  Tensor grads = empty_like(loss);
  copy(grads, each);
  cross_entropy_backward(dlogits, grads, logits, target, logsumexp, ignore_index, label_smoothing);
}

void cross_entropy_rate(const Tensor& rate, const Tensor& target, int64_t ignore_index) {
  int64_t count = 0;
  for (int64_t r = 0; r < target.numel(); ++r) count += target.data<int64_t>()[r] != ignore_index;
  visit_float("cross_entropy", rate.dtype(), [&](auto tag) {
    using C = typename decltype(tag)::type;
    *rate.data<C>() = static_cast<C>(1.0 / static_cast<double>(count));
  });
}

void cross_entropy_total(const Tensor& out, const Tensor& loss, const Tensor& rate) {
  visit_float("cross_entropy", out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const double total = sum(loss.data<C>(), loss.numel());
    // Of no rows the sum is 0, but their mean is not a number.
    *out.data<T>() = static_cast<T>(static_cast<C>(total * static_cast<double>(*rate.data<C>())));
  });
}

void scale_unless_one(const Tensor& x, const Tensor& factor) {
  visit_float("cross_entropy", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const C by = static_cast<C>(*factor.data<T>());
    if (by == C(1)) return;
    T* data = x.data<T>();
    parallel_for(x.numel(), kRowGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) data[i] = static_cast<T>(static_cast<C>(data[i]) * by);
    });
  });
}

}  // namespace vt::cpu::VT_ISA
