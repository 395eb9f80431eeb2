// The column sums of a product by a kernel of their own, where the product's does not make them.
#pragma once
#include "kernels/types.h"
#include "tensor/storage.h"

namespace vt {

// Calls reduce(sums, rows) with both as tensors over the memory that `gemm` names.
template <class Reduce>
void column_sums_of(const Gemm& gemm, Reduce&& reduce) {
  const auto over = [&](void* data, const Dims& sizes, const Dims& strides, int64_t elements) {
    auto storage =
        Storage::wrap(gemm.device, data, static_cast<size_t>(elements) * item_size(gemm.dtype), {});
    return Tensor(
        Ref<TensorImpl>::adopt(new TensorImpl(std::move(storage), sizes, strides, 0, gemm.dtype)));
  };
  const int64_t stride = gemm.out.row_stride;
  reduce(
      over(gemm.column_sums, Dims{gemm.n}, Dims{1}, gemm.n),
      over(gemm.out.data, Dims{gemm.m, gemm.n}, Dims{stride, 1}, (gemm.m - 1) * stride + gemm.n));
}

}  // namespace vt
