// Geometry that views and their gradients share.
#pragma once
#include <algorithm>
#include <optional>

#include "tensor/tensor.h"

namespace vt {

// Replaces a -1 by what `numel` leaves; a RuntimeError where the elements do not fit.
Dims infer_sizes(const char* op, const Dims& wanted, int64_t numel);
// Strides with which t's memory reads in another shape of as many elements, if there are any.
std::optional<Dims> view_strides(const Tensor& t, const Dims& sizes);

struct SliceRange {
  int64_t start, end;
};
// Python's rule: negative counts from the end, beyond the ends is cut.
inline SliceRange clamp_slice(int64_t size, int64_t start, int64_t end) {
  const auto cut = [size](int64_t i) { return std::clamp<int64_t>(i < 0 ? i + size : i, 0, size); };
  SliceRange range{cut(start), cut(end)};
  range.end = std::max(range.start, range.end);
  return range;
}

}  // namespace vt
