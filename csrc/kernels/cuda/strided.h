// Walking strided memory: plans cut to 32-bit offsets, and the division-free map from an element's
// number to offsets.
#pragma once
#include <bit>

#include "iter/elementwise.h"
#include "kernels/cuda/launch.h"

namespace vt::cuda {

// Division of numbers below 2^31 by a constant: Granlund and Montgomery, "Division by invariant
// integers using multiplication" (1994).
struct FastDivisor {
  uint32_t divisor = 1, magic = 0, shift = 0;

  FastDivisor() = default;
  explicit FastDivisor(uint32_t d) : divisor(d), shift(std::bit_width(d - 1)) {
    magic = static_cast<uint32_t>(((uint64_t{1} << 32) * ((uint64_t{1} << shift) - d)) / d + 1);
  }
  __device__ __forceinline__ uint32_t divide(uint32_t n) const {
    return (__umulhi(n, magic) + n) >> shift;
  }
};

// From an element's number to the byte offset of each operand.
template <int kOperands>
struct OffsetMap {
  int ndim = 0;
  FastDivisor sizes[kMaxDims];
  uint32_t strides[kMaxDims][kOperands];

  __device__ __forceinline__ void offsets(uint32_t element, uint32_t (&result)[kOperands]) const {
#pragma unroll
    for (int k = 0; k < kOperands; ++k) result[k] = 0;
#pragma unroll
    for (int d = 0; d < kMaxDims; ++d) {
      if (d == ndim) break;
      const uint32_t rest = sizes[d].divide(element);
      const uint32_t at = element - rest * sizes[d].divisor;
#pragma unroll
      for (int k = 0; k < kOperands; ++k) result[k] += at * strides[d][k];
      element = rest;
    }
  }
};

// Writes a dense plan's dimensions down: one run. `item_sizes` of each operand.
void flatten_dense(ElementwisePlan& plan, const size_t* item_sizes);
// Are element numbers and byte offsets below 2^31?
bool fits_32bit(const ElementwisePlan& plan);
// Halves a plan along the dimension that reaches furthest; the second half is returned.
ElementwisePlan split_off_half(ElementwisePlan& plan);

// Calls f(plan) on pieces of a strided plan that fit in 31 bits.
template <class F>
void for_each_32bit_piece(ElementwisePlan plan, F&& f) {
  if (VT_LIKELY(fits_32bit(plan))) return f(plan);
  const ElementwisePlan second = split_off_half(plan);
  for_each_32bit_piece(plan, f);
  for_each_32bit_piece(second, f);
}

template <int kOperands>
OffsetMap<kOperands> offset_map(const ElementwisePlan& plan) {
  OffsetMap<kOperands> map;
  map.ndim = plan.ndim;
  for (int d = 0; d < plan.ndim; ++d) {
    map.sizes[d] = FastDivisor(static_cast<uint32_t>(plan.sizes[d]));
    for (int k = 0; k < kOperands; ++k)
      map.strides[d][k] = static_cast<uint32_t>(plan.strides[k][d]);
  }
  return map;
}

}  // namespace vt::cuda
