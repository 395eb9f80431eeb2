// What kernels over rows share: a tensor seen as [outer, n, inner], scratch rows for 16-bit floats,
// and sums of long runs cut into pieces by their length alone.
#pragma once
#include <algorithm>
#include <memory>

#include "device/cpu/parallel.h"
#include "kernels/cpu/simd/convert.h"
#include "kernels/cpu/simd/vec.h"
#include "tensor/tensor.h"

namespace vt::cpu::VT_ISA {

inline constexpr int64_t kRowGrain = 16384;  // elements that are worth a thread

struct Axis {
  int64_t outer = 1, n = 1, inner = 1;
};
VT_INLINE Axis axis_of(const Tensor& x, int dim) {
  Axis a;
  for (int i = 0; i < x.dim(); ++i) (i < dim ? a.outer : i == dim ? a.n : a.inner) *= x.sizes()[i];
  return a;
}

// How many rows of n elements one thread takes at least.
VT_INLINE int64_t row_grain(int64_t n) {
  return std::max<int64_t>(1, kRowGrain / std::max<int64_t>(1, n));
}

// A row of the compute type for 16-bit floats, nothing for the others.
template <class T>
struct Scratch {
  std::unique_ptr<compute_t<T>[]> row;
  explicit Scratch(int64_t n) {
    if constexpr (!std::is_same_v<T, compute_t<T>>)
      row.reset(new compute_t<T>[static_cast<size_t>(n)]);
  }
  compute_t<T>* get() const { return row.get(); }
};

// sum of part(first, count) over [0, n), the parts joined in order.
template <class F>
static double sum_in_pieces(int64_t n, F&& part) {
  constexpr int64_t kPiece = 1 << 16;
  if (n < 2 * kPiece) return part(int64_t{0}, n);
  const int64_t pieces = (n + kPiece - 1) / kPiece;
  std::unique_ptr<double[]> partial(new double[static_cast<size_t>(pieces)]);
  parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p)
      partial[p] = part(p * kPiece, std::min(kPiece, n - p * kPiece));
  });
  double total = 0;
  for (int64_t p = 0; p < pieces; ++p) total += partial[p];
  return total;
}

// As `sum` and `sum_squares` of vec.h, over any float type.
inline constexpr int64_t kScratchRun = 1024;
template <class T>
static double sum_any(const T* x, int64_t n) {
  if constexpr (std::is_same_v<T, compute_t<T>>) return sum(x, n);
  compute_t<T> scratch[kScratchRun];
  double total = 0;
  for (int64_t i = 0; i < n; i += kScratchRun) {
    const int64_t count = std::min(kScratchRun, n - i);
    total += sum(load(x + i, scratch, count), count);
  }
  return total;
}
template <class T>
static double sum_squares_any(const T* x, int64_t n, compute_t<T> shift) {
  if constexpr (std::is_same_v<T, compute_t<T>>) return sum_squares(x, n, shift);
  compute_t<T> scratch[kScratchRun];
  double total = 0;
  for (int64_t i = 0; i < n; i += kScratchRun) {
    const int64_t count = std::min(kScratchRun, n - i);
    total += sum_squares(load(x + i, scratch, count), count, shift);
  }
  return total;
}

}  // namespace vt::cpu::VT_ISA
