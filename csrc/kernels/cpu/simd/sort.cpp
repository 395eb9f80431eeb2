// Sorting rows and finding nonzero elements.
#include <algorithm>
#include <numeric>
#include <vector>

#include "device/cpu/parallel.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {
namespace {

// NaN counts as larger than every number, as in torch.
template <class C>
inline bool less(C a, C b) {
  if constexpr (std::is_floating_point_v<C>) return a < b || (b != b && a == a);
  else return a < b;
}

}  // namespace

void sort(const Tensor& values, const Tensor& indices, const Tensor& x, bool descending) {
  const int64_t rows = x.sizes()[0], n = x.sizes()[1];
  visit_dtype(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* from = x.data<T>() + r * n;
        int64_t* order = indices.data<int64_t>() + r * n;
        std::iota(order, order + n, int64_t{0});
        if (descending) {
          std::stable_sort(order, order + n, [from](int64_t a, int64_t b) {
            return less(static_cast<C>(from[b]), static_cast<C>(from[a]));
          });
        } else {
          std::stable_sort(order, order + n, [from](int64_t a, int64_t b) {
            return less(static_cast<C>(from[a]), static_cast<C>(from[b]));
          });
        }
        T* to = values.data<T>() + r * n;
        for (int64_t i = 0; i < n; ++i) to[i] = from[order[i]];
      }
    });
  });
}

void nonzero(const Tensor& positions, const Tensor& x, int64_t* count) {
  int64_t found = 0;
  int64_t* to = positions.data<int64_t>();
  visit_dtype(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* from = x.data<T>();
    for (int64_t i = 0; i < x.numel(); ++i)
      if (static_cast<compute_t<T>>(from[i]) != compute_t<T>(0)) to[found++] = i;
  });
  *count = found;
}

}  // namespace vt::cpu::VT_ISA
