// Checks of index tensors, before anything is written.
#pragma once
#include "base/error.h"
#include "kernels/cpu/simd/vec.h"
#include "tensor/tensor.h"

namespace vt::cpu::VT_ISA {

// Indices lie in [0, n); no negative ones, as in PyTorch's functions of these names.
inline void check_indices(const char* op, const Tensor& index, int64_t n, int dim) {
  const int64_t* i = index.data<int64_t>();
  const int64_t count = index.numel();
  bool bad = false;
  for (int64_t k = 0; k < count; ++k)
    bad |= static_cast<uint64_t>(i[k]) >= static_cast<uint64_t>(n);
  if (!bad) return;
  for (int64_t k = 0; k < count; ++k)
    VT_CHECK(i[k] >= 0 && i[k] < n, kIndex, op, ": index ", i[k],
             " is out of bounds for dimension ", dim, " with size ", n);
}

// Targets of a cross-entropy of n classes.
inline void check_classes(const Tensor& target, int64_t n, int64_t ignore_index) {
  const int64_t* classes = target.data<int64_t>();
  for (int64_t r = 0; r < target.numel(); ++r)
    VT_CHECK((classes[r] >= 0 && classes[r] < n) || classes[r] == ignore_index, kIndex,
             "cross_entropy: target ", classes[r], " at position ", r, " is out of bounds for ", n,
             " classes");
}

}  // namespace vt::cpu::VT_ISA
