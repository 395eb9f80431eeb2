// Softmax and its gradient: along any dimension, and the scaled causal form of attention.
#include "kernels/cpu/simd/rows.h"
#include "kernels/math.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {
namespace {

constexpr int64_t kColumns = 128;  // neighbouring columns that are reduced together

// out[i] = exp(scale * (x[i] - shift)); gives the sum.
template <class C>
double exp_row(C* out, const C* x, int64_t n, C shift, C scale) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = math::exp((x[i] - shift) * scale);
  return sum(out, n);
}

template <class C>
void softmax_row(C* out, const C* x, int64_t n, C scale) {
  const C shift = scale < C(0) ? extreme<false>(x, n) : extreme<true>(x, n);
  const C inverse = static_cast<C>(1.0 / exp_row(out, x, n, shift, scale));
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] *= inverse;
}
// The same, but a row that sees nothing, of minus infinities, becomes zeros.
template <class C>
void attention_row(C* out, const C* x, int64_t n, C scale) {
  const C most = (scale < C(0) ? extreme<false>(x, n) : extreme<true>(x, n)) * scale;
  if (most == -std::numeric_limits<C>::infinity()) std::fill_n(out, n, C(0));
  else softmax_row(out, x, n, scale);
}
template <class C>
void log_softmax_row(C* out, const C* x, int64_t n) {
  const C shift = extreme<true>(x, n);
  constexpr int64_t kRun = 1024;
  C scratch[kRun];
  double total = 0;
  for (int64_t i = 0; i < n; i += kRun)
    total += exp_row(scratch, x + i, std::min(kRun, n - i), shift, C(1));
  const C offset = shift + static_cast<C>(std::log(total));
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] - offset;
}

// Columns [0, width) of an [n, inner] block.
template <class T, bool Log>
void softmax_columns(T* out, const T* x, int64_t n, int64_t inner, int64_t width) {
  using C = compute_t<T>;
  C shift[kColumns], total[kColumns];
  for (int64_t j = 0; j < width; ++j) {
    shift[j] = static_cast<C>(x[j]);
    total[j] = 0;
  }
  for (int64_t i = 1; i < n; ++i)
    for (int64_t j = 0; j < width; ++j)
      shift[j] = better<true>(shift[j], static_cast<C>(x[i * inner + j]));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < width; ++j)
      total[j] += math::exp(static_cast<C>(x[i * inner + j]) - shift[j]);
  for (int64_t j = 0; j < width; ++j) {
    if constexpr (Log) shift[j] += math::log(total[j]);
    else total[j] = C(1) / total[j];
  }
  for (int64_t i = 0; i < n; ++i)
#pragma GCC ivdep
    for (int64_t j = 0; j < width; ++j) {
      const C v = static_cast<C>(x[i * inner + j]) - shift[j];
      if constexpr (Log) out[i * inner + j] = static_cast<T>(v);
      else out[i * inner + j] = static_cast<T>(math::exp(v) * total[j]);
    }
}

template <class C>
void softmax_backward_row(C* dx, const C* grad, const C* out, int64_t n, bool log, C scale) {
  if (log) {
    const C total = static_cast<C>(sum(grad, n));
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) dx[i] = grad[i] - math::exp(out[i]) * total;
  } else {
    const C total = static_cast<C>(dot(grad, out, n));
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) dx[i] = scale * out[i] * (grad[i] - total);
  }
}
template <class T>
void softmax_backward_columns(T* dx, const T* grad, const T* out, int64_t n, int64_t inner,
                              int64_t width, bool log) {
  using C = compute_t<T>;
  C total[kColumns] = {};
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < width; ++j) {
      const C g = static_cast<C>(grad[i * inner + j]);
      total[j] += log ? g : g * static_cast<C>(out[i * inner + j]);
    }
  for (int64_t i = 0; i < n; ++i)
#pragma GCC ivdep
    for (int64_t j = 0; j < width; ++j) {
      const C g = static_cast<C>(grad[i * inner + j]), o = static_cast<C>(out[i * inner + j]);
      dx[i * inner + j] = static_cast<T>(log ? g - math::exp(o) * total[j] : o * (g - total[j]));
    }
}

// Calls f(offset of the first element, width) for blocks of neighbouring columns.
template <class F>
void over_columns(const Axis& a, F&& f) {
  const int64_t blocks = (a.inner + kColumns - 1) / kColumns;
  parallel_for(a.outer * blocks, row_grain(a.n * std::min(a.inner, kColumns)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t t = begin; t < end; ++t) {
                   const int64_t j = t % blocks * kColumns;
                   f(t / blocks * a.n * a.inner + j, std::min(kColumns, a.inner - j));
                 }
               });
}

}  // namespace

void softmax(const Tensor& out, const Tensor& x, int dim, bool log) {
  const Axis a = axis_of(x, dim);
  visit_float("softmax", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* o = out.data<T>();
    const T* in = x.data<T>();
    if (a.inner > 1) {
      over_columns(a, [&](int64_t offset, int64_t width) {
        if (log) softmax_columns<T, true>(o + offset, in + offset, a.n, a.inner, width);
        else softmax_columns<T, false>(o + offset, in + offset, a.n, a.inner, width);
      });
      return;
    }
    parallel_for(a.outer, row_grain(a.n), [&](int64_t begin, int64_t end) {
      const Scratch<T> from(a.n), to(a.n);
      for (int64_t r = begin; r < end; ++r) {
        T* dst = o + r * a.n;
        auto* result = target(dst, to.get());
        const auto* row = load(in + r * a.n, from.get(), a.n);
        if (log) log_softmax_row(result, row, a.n);
        else softmax_row(result, row, a.n, compute_t<T>(1));
        store(dst, result, a.n);
      }
    });
  });
}

void softmax_backward(const Tensor& dx, const Tensor& grad, const Tensor& out, int dim, bool log) {
  const Axis a = axis_of(out, dim);
  visit_float("softmax_backward", out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* d = dx.data<T>();
    const T *g = grad.data<T>(), *o = out.data<T>();
    if (a.inner > 1) {
      over_columns(a, [&](int64_t offset, int64_t width) {
        softmax_backward_columns(d + offset, g + offset, o + offset, a.n, a.inner, width, log);
      });
      return;
    }
    parallel_for(a.outer, row_grain(a.n), [&](int64_t begin, int64_t end) {
      const Scratch<T> gs(a.n), os(a.n), to(a.n);
      for (int64_t r = begin; r < end; ++r) {
        T* dst = d + r * a.n;
        auto* result = target(dst, to.get());
        softmax_backward_row(result, load(g + r * a.n, gs.get(), a.n),
                             load(o + r * a.n, os.get(), a.n), a.n, log, compute_t<T>(1));
        store(dst, result, a.n);
      }
    });
  });
}

void causal_softmax(const Tensor& out, const Tensor& x, double scale, bool causal) {
  const int64_t cols = x.sizes().back(), rows = x.sizes()[x.dim() - 2],
                all = x.numel() / std::max<int64_t>(1, cols);
  visit_float("scaled_softmax", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    parallel_for(all, row_grain(cols), [&](int64_t begin, int64_t end) {
      const Scratch<T> from(cols), to(cols);
      for (int64_t r = begin; r < end; ++r) {
        const int64_t visible =
            causal ? std::clamp<int64_t>(r % rows + cols - rows + 1, 0, cols) : cols;
        T* dst = out.data<T>() + r * cols;
        if (visible > 0) {
          auto* result = target(dst, to.get());
          attention_row(result, load(x.data<T>() + r * cols, from.get(), visible), visible,
                        static_cast<compute_t<T>>(scale));
          store(dst, result, visible);
        }
        std::memset(static_cast<void*>(dst + visible), 0,
                    static_cast<size_t>(cols - visible) * sizeof(T));
      }
    });
  });
}

void causal_softmax_backward(const Tensor& dx, const Tensor& grad, const Tensor& out,
                             double scale) {
  const int64_t cols = out.sizes().back(), all = out.numel() / std::max<int64_t>(1, cols);
  visit_float("scaled_softmax_backward", out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    parallel_for(all, row_grain(cols), [&](int64_t begin, int64_t end) {
      const Scratch<T> gs(cols), os(cols), to(cols);
      for (int64_t r = begin; r < end; ++r) {
        T* dst = dx.data<T>() + r * cols;
        auto* result = target(dst, to.get());
        softmax_backward_row(result, load(grad.data<T>() + r * cols, gs.get(), cols),
                             load(out.data<T>() + r * cols, os.get(), cols), cols, false,
                             static_cast<compute_t<T>>(scale));
        store(dst, result, cols);
      }
    });
  });
}

}  // namespace vt::cpu::VT_ISA
