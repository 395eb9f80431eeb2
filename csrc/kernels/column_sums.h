// The sums that a product gives beside it by a kernel of their own, where its kernel does not make
// them.
#pragma once
#include "kernels/types.h"
#include "tensor/storage.h"

namespace vt {

// A tensor over memory that `gemm` names.
inline Tensor over(const Gemm& gemm, void* data, const Dims& sizes, const Dims& strides) {
  int64_t last = 0;
  for (int d = 0; d < sizes.size(); ++d) last += (sizes[d] - 1) * strides[d];
  auto storage =
      Storage::wrap(gemm.device, data, static_cast<size_t>(last + 1) * item_size(gemm.dtype), {});
  return Tensor(
      Ref<TensorImpl>::adopt(new TensorImpl(std::move(storage), sizes, strides, 0, gemm.dtype)));
}

// Calls reduce(sums, rows), which adds up dimension 0 of rows.
template <class Reduce>
void column_sums_of(const Gemm& gemm, Reduce&& reduce) {
  reduce(over(gemm, gemm.column_sums, Dims{gemm.n}, Dims{1}),
         over(gemm, gemm.out.data, Dims{gemm.m, gemm.n}, Dims{gemm.out.row_stride, 1}));
}
template <class Reduce>
void row_sums_of(const Gemm& gemm, Reduce&& reduce) {
  reduce(
      over(gemm, gemm.row_sums, Dims{gemm.m}, Dims{1}),
      over(gemm, gemm.a.data, Dims{gemm.k, gemm.m}, Dims{gemm.a.column_stride, gemm.a.row_stride}));
}

}  // namespace vt
