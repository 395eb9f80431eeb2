// The plan of an elementwise loop over one output and a few inputs: broadcast, with dimensions
// merged where the memory allows. Kernels see only this, never tensors.
#pragma once
#include <span>

#include "tensor/tensor.h"

namespace vt {

struct ElementwisePlan {
  static constexpr int kMaxOperands = 5;  // the output and four inputs

  Device device;
  int operands = 0;  // operand 0 is the output
  int64_t numel = 0;
  bool dense = false;  // every operand is one run of memory in the same order: ignore dims below
  char* data[kMaxOperands];
  // After merging; dimension 0 is the innermost. Strides in bytes, 0 where broadcast.
  int ndim;
  int64_t sizes[kMaxDims];
  int64_t strides[kMaxOperands][kMaxDims];
};

// `out` must have the broadcast shape of the inputs. Types are not looked at.
ElementwisePlan plan_elementwise(const Tensor& out, std::span<const Tensor* const> inputs);

// The shape that a and b broadcast to; a RuntimeError naming op, both tensors and the dimension
// where they do not.
Dims broadcast_shapes(const char* op, const Tensor& a, const Tensor& b);
Dims broadcast_sizes(const char* op, const Dims& a, const Dims& b);

// Throws where an element of `out` is several elements of its shape (an expanded tensor): it cannot
// be written.
void check_writable(const char* op, const Tensor& out);

// Could writing `out` while reading `input` elementwise see its own writes? True for overlap that
// is not exact aliasing.
bool overlaps_partially(const Tensor& out, const Tensor& input);

}  // namespace vt
