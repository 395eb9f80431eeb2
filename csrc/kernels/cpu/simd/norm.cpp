// Layer and RMS normalisation of rows with their gradients, and the variance of rows. Moments take
// two passes.
#include <cmath>

#include "kernels/cpu/simd/rows.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {
namespace {

// A weight or bias as the compute type, or ready-made ones or zeros; n elements.
template <class T>
class Parameter {
 public:
  using C = compute_t<T>;
  Parameter(const Tensor& t, int64_t n, C otherwise) {
    if (t.defined() && std::is_same_v<T, C>) {
      data_ = reinterpret_cast<const C*>(t.data<T>());
      return;
    }
    owned_.reset(new C[static_cast<size_t>(n)]);
    data_ = owned_.get();
    if (t.defined()) load(t.data<T>(), owned_.get(), n);
    else std::fill_n(owned_.get(), n, otherwise);
  }
  const C* get() const { return data_; }

 private:
  const C* data_;
  std::unique_ptr<C[]> owned_;
};

template <class T, bool Centred>
void forward(const Tensor& out, const Tensor& sums, const Tensor& mean, const Tensor& rstd,
             const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias,
             double eps) {
  using C = compute_t<T>;
  const int64_t rows = rstd.numel(), n = x.numel() / std::max<int64_t>(1, rows);
  const Parameter<T> weights(weight, n, C(1)), biases(bias, n, C(0));
  const C *w = weights.get(), *b = biases.get();
  parallel_for(rows, row_grain(n), [&](int64_t begin, int64_t end) {
    const Scratch<T> from(n), other(n), to(n);
    for (int64_t r = begin; r < end; ++r) {
      const C* row = load(x.data<T>() + r * n, from.get(), n);
      if (residual.defined()) {
        const C* add = load(residual.data<T>() + r * n, other.get(), n);
        T* sum_row = sums.data<T>() + r * n;
        C* s = target(sum_row, to.get());
#pragma GCC ivdep
        for (int64_t i = 0; i < n; ++i) s[i] = row[i] + add[i];
        store(sum_row, s, n);
        row = load(static_cast<const T*>(sum_row), from.get(), n);  // as it was rounded
      }
      T* dst = out.data<T>() + r * n;
      C* o = target(dst, to.get());
      const C m = Centred ? static_cast<C>(sum(row, n) / static_cast<double>(n)) : C(0);
      const C s =
          static_cast<C>(1.0 / std::sqrt(sum_squares(row, n, m) / static_cast<double>(n) + eps));
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) o[i] = (row[i] - m) * s * w[i] + b[i];
      store(dst, o, n);
      if constexpr (Centred) mean.data<C>()[r] = m;
      rstd.data<C>()[r] = s;
    }
  });
}

// The sum over rows for dweight and dbias: pieces of rows whose number depends on the shape alone,
// each summed in the compute type for kFold rows and then in double.
constexpr int64_t kFold = 64;
template <class C>
struct ParameterSums {
  int64_t n;
  bool with_bias;
  C *weight, *bias;          // of the rows since the last fold
  double *weights, *biases;  // of this piece

  void add_row(const C* grad, const C* x, C m, C s) const {
    if (with_bias) {
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) {
        weight[i] += grad[i] * ((x[i] - m) * s);
        bias[i] += grad[i];
      }
    } else {
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) weight[i] += grad[i] * ((x[i] - m) * s);
    }
  }
  void fold() const {
    for (int64_t i = 0; i < n; ++i) {
      weights[i] += static_cast<double>(weight[i]);
      weight[i] = 0;
      if (!with_bias) continue;
      biases[i] += static_cast<double>(bias[i]);
      bias[i] = 0;
    }
  }
};

template <class T, bool Centred>
void backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias, const Tensor& grad,
              const Tensor& extra, const Tensor& x, const Tensor& mean, const Tensor& rstd,
              const Tensor& weight) {
  using C = compute_t<T>;
  const int64_t rows = rstd.numel(), n = x.numel() / std::max<int64_t>(1, rows);
  const Parameter<T> weights(weight, n, C(1));
  const C* w = weights.get();
  const bool sums = dweight.defined() || dbias.defined();
  const int64_t pieces = sums ? std::clamp<int64_t>(rows / 32, 1, 16) : rows;
  const int64_t piece = (rows + pieces - 1) / pieces;
  const size_t total = sums ? static_cast<size_t>(pieces * 2 * n) : 0;
  std::unique_ptr<double[]> partial(total ? new double[total]() : nullptr);
  const int64_t grain = std::max<int64_t>(1, kRowGrain / std::max<int64_t>(1, piece * n));
  parallel_for(pieces, grain, [&](int64_t begin, int64_t end) {
    const Scratch<T> xs(n), gs(n), more(n), to(n);
    std::unique_ptr<C[]> running(sums ? new C[static_cast<size_t>(2 * n)]() : nullptr);
    for (int64_t p = begin; p < end; ++p) {
      double* slot = partial.get() + (sums ? p * 2 * n : 0);
      const ParameterSums<C> parameter{
          n,    dbias.defined(),      running.get(), running.get() + (sums ? n : 0),
          slot, slot + (sums ? n : 0)};
      const int64_t last = std::min(rows, (p + 1) * piece);
      for (int64_t r = p * piece; r < last; ++r) {
        const C* row = load(x.data<T>() + r * n, xs.get(), n);
        const C* g = load(grad.data<T>() + r * n, gs.get(), n);
        const C m = Centred ? mean.data<C>()[r] : C(0), s = rstd.data<C>()[r];
        if (sums) {
          parameter.add_row(g, row, m, s);
          if ((r - p * piece) % kFold == kFold - 1 || r == last - 1) parameter.fold();
        }
        // With xhat = (x - m) s and h = grad w: dx = s (h - mean(h) - xhat mean(h xhat)).
        const double along = sum_of<C>(n, [=](int64_t i, auto kind) __attribute__((always_inline)) {
          if constexpr (std::is_same_v<decltype(kind), C>) return g[i] * w[i] * (row[i] - m);
          else return at(g + i) * at(w + i) * (at(row + i) - m);
        });
        const C slope = static_cast<C>(along * s * s / static_cast<double>(n));
        const C level = Centred ? static_cast<C>(dot(g, w, n) / static_cast<double>(n)) : C(0);
        T* dst = dx.data<T>() + r * n;
        C* d = target(dst, to.get());
#pragma GCC ivdep
        for (int64_t i = 0; i < n; ++i) d[i] = s * (g[i] * w[i] - level - (row[i] - m) * slope);
        if (extra.defined()) {
          const C* e = load(extra.data<T>() + r * n, more.get(), n);
#pragma GCC ivdep
          for (int64_t i = 0; i < n; ++i) d[i] += e[i];
        }
        store(dst, d, n);
      }
    }
  });
  for (int64_t which = 0; which < 2; ++which) {
    const Tensor& t = which == 0 ? dweight : dbias;
    if (!t.defined()) continue;
    double* first = partial.get() + which * n;
    for (int64_t p = 1; p < pieces; ++p)
      for (int64_t i = 0; i < n; ++i) first[i] += first[p * 2 * n + i];
    for (int64_t i = 0; i < n; ++i) t.data<T>()[i] = static_cast<T>(static_cast<C>(first[i]));
  }
}

}  // namespace

void norm(const Tensor& out, const Tensor& sum, const Tensor& mean, const Tensor& rstd,
          const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias,
          double eps) {
  visit_float(mean.defined() ? "layer_norm" : "rms_norm", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto run = mean.defined() ? &forward<T, true> : &forward<T, false>;
    run(out, sum, mean, rstd, x, residual, weight, bias, eps);
  });
}

void dropout_norm(const Tensor& out, const Tensor& sum, const Tensor& begun, const Tensor& mean,
                  const Tensor& rstd, const Tensor& x, const Tensor& residual, const Tensor& weight,
                  const Tensor& bias, double eps, double p, PhiloxState state) {
  dropout(sum, begun, x, p, state);  // each element is read before its sum is written
  norm(out, sum, mean, rstd, sum, residual, weight, bias, eps);
}

void norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                   const Tensor& dx_sum, const Tensor& grad, const Tensor& extra, const Tensor& x,
                   const Tensor& mean, const Tensor& rstd, const Tensor& weight) {
  visit_float(mean.defined() ? "layer_norm" : "rms_norm", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto run = mean.defined() ? &backward<T, true> : &backward<T, false>;
    run(dx, dweight, dbias, grad, extra, x, mean, rstd, weight);
  });
  if (dx_sum.defined()) reduce(dx_sum, dx, ReduceKind::kSum, 1u);
}

void dropout_norm_backward(const Tensor& dx, const Tensor& dropped, const Tensor& dweight,
                           const Tensor& dbias, const Tensor& begun, const Tensor& grad,
                           const Tensor& extra, const Tensor& x, const Tensor& mean,
                           const Tensor& rstd, const Tensor& weight, double p) {
  norm_backward(dx, dweight, dbias, Tensor(), grad, extra, x, mean, rstd, weight);
  dropout_again(dropped, begun, dx, p);
}

void variance(const Tensor& out, const Tensor& mean, const Tensor& x, double correction) {
  const int64_t rows = out.numel(), n = x.numel() / std::max<int64_t>(1, rows);
  const double divisor = std::max(0.0, static_cast<double>(n) - correction);
  visit_float("var", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const auto row = [&](int64_t r) {
      const T* data = x.data<T>() + r * n;
      const C m = static_cast<C>(
          sum_in_pieces(
              n, [data](int64_t first, int64_t count) { return sum_any(data + first, count); }) /
          static_cast<double>(n));
      const double squares = sum_in_pieces(n, [data, m](int64_t first, int64_t count) {
        return sum_squares_any(data + first, count, m);
      });
      mean.data<C>()[r] = m;
      out.data<T>()[r] = static_cast<T>(static_cast<C>(squares / divisor));
    };
    if (rows < 8) {  // each row on all threads
      for (int64_t r = 0; r < rows; ++r) row(r);
    } else {
      parallel_for(rows, row_grain(n), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) row(r);
      });
    }
  });
}

}  // namespace vt::cpu::VT_ISA
