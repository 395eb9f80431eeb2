// Softmax cross-entropy of the logits that a product makes: they are replaced by exponentials that
// their gradient is a multiple of, row by row.
#include "kernels/cpu/simd/check_index.h"
#include "kernels/cpu/simd/widen.h"
#include "kernels/math.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {
namespace {

constexpr int64_t kLogitsAtOnce = int64_t{1} << 21;  // 16-bit ones, which are not rounded

// Where the rows' results go, and what they are of.
template <class C>
struct Rows {
  C *loss, *scale;
  const C* grad;
  int64_t grad_step;
  const int64_t* labels;
  int64_t ignored, classes;
};

// The logits x of row r, which are overwritten, and dst, which may be x. The row is at hand when
// its sum is known, so the exponentials become probabilities, of sum 1.
template <class T>
void row_of(const Rows<compute_t<T>>& rows, int64_t r, T* dst, compute_t<T>* x) {
  using C = compute_t<T>;
  const int64_t n = rows.classes, label = rows.labels[r];
  if (label == rows.ignored) {
    rows.loss[r] = rows.scale[r] = 0;
    std::memset(static_cast<void*>(dst), 0, static_cast<size_t>(n) * sizeof(T));
    return;
  }
  const C shift = extreme<true>(x, n), own = x[label] - shift;
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) x[j] = math::exp(x[j] - shift);
  const double at_label = static_cast<double>(x[label]);
  x[label] = 0;
  const double others = sum(x, n), total = others + at_label;
  const C share = static_cast<C>(1 / total);
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) x[j] *= share;
  x[label] = static_cast<C>(-others / total);
  store(dst, x, n);
  // The gradient at the label is mostly the row's largest: the scale makes up for its rounding.
  const double rounded = -static_cast<double>(static_cast<C>(dst[label]));
  const double made_up = rounded > 0 ? others / total / rounded : 1;
  rows.loss[r] = static_cast<C>(std::log(total) - static_cast<double>(own));
  rows.scale[r] = static_cast<C>(static_cast<double>(rows.grad[r * rows.grad_step]) * made_up);
}

template <class C>
Gemm logits_of(const Gemm& product, const GemmMatrix& a, const C* a_data, const GemmMatrix& b,
               const C* b_data, C* out, int64_t begin, int64_t count) {
  Gemm part = product;
  part.dtype = DTypeOf<C>::value;
  part.m = count;
  part.a = a;
  part.a.data = const_cast<C*>(a_data + begin * a.row_stride);
  part.b = b;
  part.b.data = const_cast<C*>(b_data);
  part.out = {out, product.n, 1, 0};
  return part;
}

}  // namespace

void linear_cross_entropy(const Tensor& loss, const Tensor& scale, const Gemm& product,
                          const Tensor& grad, const Tensor& target, int64_t ignore_index) {
  const int64_t m = product.m, n = product.n;
  check_classes(target, n, ignore_index);
  visit_float("linear_cross_entropy", product.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const Rows<C> rows{loss.data<C>(),
                       scale.data<C>(),
                       grad.data<C>(),
                       grad.numel() == m ? 1 : 0,
                       target.data<int64_t>(),
                       ignore_index,
                       n};
    T* out = static_cast<T*>(product.out.data);
    if constexpr (std::is_same_v<T, C>) {
      gemm(product);
      parallel_for(m, row_grain(n), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) row_of<T>(rows, r, out + r * n, out + r * n);
      });
    } else {
      std::unique_ptr<C[]> a_owned, b_owned;
      GemmMatrix a_layout, b_layout;
      const C* a = widen<T>(product.a, 0, m, product.k, &a_layout, a_owned);
      const C* b = widen<T>(product.b, 0, product.k, n, &b_layout, b_owned);
      const int64_t at_once = std::clamp<int64_t>(kLogitsAtOnce / n, 1, m);
      const std::unique_ptr<C[]> logits(new C[static_cast<size_t>(at_once * n)]);
      for (int64_t from = 0; from < m; from += at_once) {
        const int64_t count = std::min(at_once, m - from);
        gemm(logits_of<C>(product, a_layout, a, b_layout, b, logits.get(), from, count));
        parallel_for(count, row_grain(n), [&](int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r)
            row_of<T>(rows, from + r, out + (from + r) * n, logits.get() + r * n);
        });
      }
    }
  });
}

void scale_rows(const Tensor& out, const Tensor& x, const Tensor& scale, const Tensor& factor) {
  const int64_t rows = scale.numel(), n = x.sizes().back();
  visit_float("scale_rows", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const C all = factor.defined() ? static_cast<C>(*factor.data<T>()) : C(1);
    parallel_for(rows, row_grain(n), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const C by = scale.data<C>()[r] * all;
        const T* from = x.data<T>() + r * n;
        T* to = out.data<T>() + r * n;
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) to[j] = static_cast<T>(static_cast<C>(from[j]) * by);
      }
    });
  });
}

}  // namespace vt::cpu::VT_ISA
