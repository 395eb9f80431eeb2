// The common type of several operands, by torch's rule: tensors with dimensions decide; 0-d tensors
// and then numbers only change the result where their kind (bool < integer < float) is higher.
#pragma once
#include "base/scalar.h"
#include "tensor/tensor.h"

namespace vt {

class Promotion {
 public:
  void add(const Tensor& t) { add_to(t.dim() > 0 ? tensors_ : zero_dim_, t.dtype()); }
  void add(Scalar s) {
    add_to(numbers_, s.is_float() ? DType::kF32 : s.is_bool() ? DType::kBool : DType::kI64);
  }

  DType result() const { return combine(combine(tensors_, zero_dim_), numbers_).dtype; }

 private:
  struct Group {
    bool any = false;
    DType dtype = DType::kBool;
  };
  static int kind(DType t) { return is_float(t) ? 2 : t == DType::kBool ? 0 : 1; }
  static void add_to(Group& group, DType t) {
    group.dtype = group.any ? promote(group.dtype, t) : t;
    group.any = true;
  }
  static Group combine(Group higher, Group lower) {
    if (!higher.any) return lower;
    if (lower.any && kind(lower.dtype) > kind(higher.dtype))
      higher.dtype = promote(higher.dtype, lower.dtype);
    return higher;
  }

  Group tensors_, zero_dim_, numbers_;
};

}  // namespace vt
