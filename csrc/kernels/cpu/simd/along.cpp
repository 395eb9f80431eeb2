// Kernels along one dimension that keep track of places: extremum with its index, cumulative sums.
#include "kernels/cpu/simd/rows.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {
namespace {

constexpr int64_t kColumns = 128;
constexpr int64_t kPiece = 1 << 16;

// The first i with x[i] equal to value, where NaN equals NaN.
template <class T>
int64_t find_first(const T* x, int64_t n, T value) {
  constexpr int64_t kBlock = 256;
  const bool nan = value != value;
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t end = std::min(n, i + kBlock);
    unsigned hit = 0;
    if (nan) {
      for (int64_t j = i; j < end; ++j) hit |= x[j] != x[j];
    } else {
      for (int64_t j = i; j < end; ++j) hit |= x[j] == value;
    }
    if (!hit) continue;
    for (int64_t j = i; j < end; ++j)
      if (nan ? x[j] != x[j] : x[j] == value) return j;
  }
  return 0;
}

template <bool Largest, class T>
T extreme_in_pieces(const T* x, int64_t n) {
  if (n < 2 * kPiece) return extreme<Largest>(x, n);
  const int64_t pieces = (n + kPiece - 1) / kPiece;
  std::unique_ptr<T[]> partial(new T[static_cast<size_t>(pieces)]);
  parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p)
      partial[p] = extreme<Largest>(x + p * kPiece, std::min(kPiece, n - p * kPiece));
  });
  return extreme<Largest>(partial.get(), pieces);
}

// M is what an element of x is in memory, T what is compared.
template <bool Largest, class M, class T>
void extremum_along(M* values, int64_t* indices, const M* x, const Axis& a) {
  if (a.inner == 1) {
    const auto row = [&](int64_t r, const T* data) {
      const T best =
          a.outer < 8 ? extreme_in_pieces<Largest>(data, a.n) : extreme<Largest>(data, a.n);
      indices[r] = find_first(data, a.n, best);
      values[r] = x[r * a.n + indices[r]];
    };
    const auto rows = [&](int64_t begin, int64_t end) {
      std::unique_ptr<T[]> scratch(std::is_same_v<M, T> ? nullptr
                                                        : new T[static_cast<size_t>(a.n)]);
      for (int64_t r = begin; r < end; ++r) {
        if constexpr (std::is_same_v<M, T>) row(r, x + r * a.n);
        else row(r, load(x + r * a.n, scratch.get(), a.n));
      }
    };
    if (a.outer < 8) rows(0, a.outer);
    else parallel_for(a.outer, row_grain(a.n), rows);
    return;
  }
  const int64_t blocks = (a.inner + kColumns - 1) / kColumns;
  parallel_for(a.outer * blocks, row_grain(a.n * std::min(a.inner, kColumns)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t t = begin; t < end; ++t) {
                   const int64_t o = t / blocks, j = t % blocks * kColumns,
                                 width = std::min(kColumns, a.inner - j);
                   const M* from = x + o * a.n * a.inner + j;
                   T best[kColumns];
                   int64_t place[kColumns] = {};
                   for (int64_t c = 0; c < width; ++c) best[c] = static_cast<T>(from[c]);
                   for (int64_t i = 1; i < a.n; ++i)
                     for (int64_t c = 0; c < width; ++c) {
                       const T v = static_cast<T>(from[i * a.inner + c]);
                       const bool better = ((Largest ? v > best[c] : v < best[c]) | (v != v)) &
                                           (best[c] == best[c]);
                       best[c] = better ? v : best[c];
                       place[c] = better ? i : place[c];
                     }
                   for (int64_t c = 0; c < width; ++c) {
                     indices[o * a.inner + j + c] = place[c];
                     values[o * a.inner + j + c] = from[place[c] * a.inner + c];
                   }
                 }
               });
}

// Integers carry int64, floats double.
template <class T>
void cumsum_along(T* out, const T* x, const Axis& a) {
  using Acc = std::conditional_t<is_float(DTypeOf<T>::value), double, uint64_t>;
  const auto narrow = [](Acc v) __attribute__((always_inline)) {
    if constexpr (is_half(DTypeOf<T>::value)) return T(static_cast<float>(v));
    else return static_cast<T>(v);
  };
  if (a.inner == 1) {
    parallel_for(a.outer, row_grain(a.n), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        Acc total = 0;
        for (int64_t i = r * a.n; i < (r + 1) * a.n; ++i) {
          total += static_cast<Acc>(static_cast<compute_t<T>>(x[i]));
          out[i] = narrow(total);
        }
      }
    });
    return;
  }
  const int64_t blocks = (a.inner + kColumns - 1) / kColumns;
  parallel_for(a.outer * blocks, row_grain(a.n * std::min(a.inner, kColumns)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t t = begin; t < end; ++t) {
                   const int64_t j = t % blocks * kColumns, width = std::min(kColumns, a.inner - j);
                   const int64_t offset = t / blocks * a.n * a.inner + j;
                   Acc total[kColumns] = {};
                   for (int64_t i = 0; i < a.n; ++i)
                     for (int64_t c = 0; c < width; ++c) {
                       total[c] +=
                           static_cast<Acc>(static_cast<compute_t<T>>(x[offset + i * a.inner + c]));
                       out[offset + i * a.inner + c] = narrow(total[c]);
                     }
                 }
               });
}

}  // namespace

void extremum(const Tensor& values, const Tensor& indices, const Tensor& x, int dim, bool largest) {
  const Axis a = axis_of(x, dim);
  visit_dtype(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using M = std::conditional_t<std::is_same_v<T, bool>, uint8_t, T>;
    using C = std::conditional_t<std::is_same_v<T, bool>, uint8_t, compute_t<T>>;
    if (largest)
      extremum_along<true, M, C>(values.data<M>(), indices.data<int64_t>(), x.data<M>(), a);
    else extremum_along<false, M, C>(values.data<M>(), indices.data<int64_t>(), x.data<M>(), a);
  });
}

void cumsum(const Tensor& out, const Tensor& x, int dim) {
  const Axis a = axis_of(x, dim);
  visit_dtype(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_same_v<T, bool>)
      fail(ErrorKind::kRuntime, "cumsum: not implemented for bool; convert to int64 first");
    else cumsum_along(out.data<T>(), x.data<T>(), a);
  });
}

}  // namespace vt::cpu::VT_ISA
