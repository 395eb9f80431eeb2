// Small steps that many operators share below autograd.
#pragma once
#include "kernels/table.h"
#include "ops/ops.h"

namespace vt {

// t, or a row-major copy of it: structured kernels read dense memory.
inline Tensor dense(const Tensor& t) { return t.defined() && !t.is_dense() ? raw::clone(t) : t; }

inline void check_same_device(const char* op, const Tensor& a, const Tensor& b) {
  VT_CHECK(!b.defined() || a.device() == b.device(), kRuntime, op,
           ": expected all tensors to be on the same device, but found ", a, " and ", b,
           "; move one with .to(device)");
}

inline void check_float(const char* op, const Tensor& t) {
  VT_CHECK(is_float(t.dtype()), kRuntime, op, ": expected a floating point tensor, got ", t,
           "; convert with .float() first");
}

// The type in which sums over elements of t are kept.
inline DType statistics_type(const Tensor& t) {
  return t.dtype() == DType::kF64 ? DType::kF64 : DType::kF32;
}

// Rows of a tensor split at a dimension: [outer, n, inner].
struct Split {
  int64_t outer = 1, n = 1, inner = 1;
  Split(const Dims& sizes, int dim) {
    for (int i = 0; i < sizes.size(); ++i) (i < dim ? outer : i == dim ? n : inner) *= sizes[i];
  }
};

}  // namespace vt
