// Walking some of a tensor's dimensions in order, with 64-bit offsets: for kernels that index
// instead of stream.
#pragma once
#include <limits>

#include "kernels/cuda/strided.h"

namespace vt::cuda {

// Some dimensions of a tensor, innermost first, neighbours merged. Strides in elements.
struct Walk {
  int ndim = 0;
  int64_t count = 1;
  int64_t sizes[kMaxDims], strides[kMaxDims];

  void add(int64_t size, int64_t stride) {
    count *= size;
    if (size <= 1) return;
    if (ndim > 0 && stride == strides[ndim - 1] * sizes[ndim - 1]) {
      sizes[ndim - 1] *= size;
      return;
    }
    sizes[ndim] = size;
    strides[ndim++] = stride;
  }
  int64_t inner_stride() const { return ndim ? strides[0] : std::numeric_limits<int64_t>::max(); }
};

// From a position in a walk to an offset.
struct WalkMap {
  int ndim;
  FastDivisor sizes[kMaxDims];
  int64_t strides[kMaxDims];

  explicit WalkMap(const Walk& walk) : ndim(walk.ndim) {
    VT_CHECK(walk.ndim <= 1 || walk.count < std::numeric_limits<int32_t>::max(), kRuntime,
             "cuda: 2^31 or more elements that are not evenly spaced; call contiguous() first");
    if (ndim == 0) strides[0] = 0;
    for (int d = 0; d < ndim; ++d) {
      sizes[d] = FastDivisor(static_cast<uint32_t>(walk.sizes[d]));
      strides[d] = walk.strides[d];
    }
  }
  __device__ __forceinline__ int64_t at(int64_t position) const {
    if (ndim <= 1) return position * strides[0];
    auto rest = static_cast<uint32_t>(position);
    int64_t offset = 0;
#pragma unroll
    for (int d = 0; d < kMaxDims; ++d) {
      if (d == ndim) break;
      const uint32_t next = sizes[d].divide(rest);
      offset += (rest - next * sizes[d].divisor) * strides[d];
      rest = next;
    }
    return offset;
  }
};

}  // namespace vt::cuda
