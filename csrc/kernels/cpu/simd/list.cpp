// The joint norm of a list of tensors, and scaling a list down to a norm.
#include <cmath>

#include "kernels/cpu/simd/rows.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {

void norm_list(const Tensor& out, const std::vector<Tensor>& tensors) {
  const Tensor squares = empty(Dims{}, DType::kF64, out.device());
  double total = 0;
  for (const Tensor& t : tensors) {
    if (t.numel() == 0) continue;
    sum_of_squares(squares, t);
    total += *squares.data<double>();
  }
  if (out.dtype() == DType::kF64) *out.data<double>() = std::sqrt(total);
  else *out.data<float>() = static_cast<float>(std::sqrt(total));
}

void clip_list(const std::vector<Tensor>& tensors, const Tensor& norm, double max_norm) {
  visit_float("clip_list_", tensors[0].dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const C limit = static_cast<C>(max_norm) / (*norm.data<C>() + C(1e-6));
    if (limit >= C(1)) return;  // not so for NaN, which must show
    for (const Tensor& t : tensors) {
      T* data = t.data<T>();
      parallel_for(t.numel(), kRowGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          data[i] = static_cast<T>(static_cast<C>(data[i]) * limit);
      });
    }
  });
}

}  // namespace vt::cpu::VT_ISA
