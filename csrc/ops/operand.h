// The right-hand side of an arithmetic operator: a tensor, or a number that stays a number all the
// way to the kernel.
#pragma once
#include "base/scalar.h"
#include "tensor/tensor.h"

namespace vt {

// Borrows the tensor: valid for the length of the call it is passed to.
struct Operand {
  const Tensor* tensor = nullptr;
  Scalar scalar;

  Operand(const Tensor& t) : tensor(&t) {}
  Operand(Scalar s) : scalar(s) {}
  Operand(double value) : scalar(value) {}
  Operand(int value) : scalar(value) {}
  Operand(int64_t value) : scalar(value) {}
  bool is_tensor() const { return tensor != nullptr; }
};

}  // namespace vt
