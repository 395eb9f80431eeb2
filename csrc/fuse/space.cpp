// Refining spaces.
#include "fuse/space.h"

namespace vt::fuse {

const char* Window::end(const Space& space) const {
  const char* last = data;
  for (int d = 0; d < space.ndim; ++d) last += (space.sizes[d] - 1) * strides[d];
  return last + item_size(dtype);
}

bool Window::same(const Window& other, const Space& space) const {
  bool equal = data == other.data && dtype == other.dtype;
  for (int d = 0; d < space.ndim; ++d) equal = equal && strides[d] == other.strides[d];
  return equal;
}

bool refine(const Space& a, const Space& b, Space& fine) {
  fine.ndim = 0;
  int64_t rest_a = 1, rest_b = 1;
  int i = 0, j = 0;
  for (;;) {
    if (rest_a == 1 && i < a.ndim) rest_a = a.sizes[i++];
    if (rest_b == 1 && j < b.ndim) rest_b = b.sizes[j++];
    if (rest_a == 1 || rest_b == 1) return rest_a == rest_b;
    const int64_t step = std::min(rest_a, rest_b);
    if (rest_a % step != 0 || rest_b % step != 0 || fine.ndim == kMaxDims) return false;
    fine.sizes[fine.ndim++] = step;
    rest_a /= step;
    rest_b /= step;
  }
}

Space lifted(const Space& space, int64_t size) {
  Space result;
  result.sizes[0] = size;
  for (int d = 0; d < space.ndim; ++d) result.sizes[d + 1] = space.sizes[d];
  result.ndim = space.ndim + 1;
  return result;
}

Window lifted(const Window& window, const Space& space) {
  Window result{window.data, window.dtype, {}};
  for (int d = 0; d < space.ndim; ++d) result.strides[d + 1] = window.strides[d];
  return result;
}

int dims_of_row(const Space& space, int64_t elements) {
  int64_t run = 1;
  for (int d = 0; d <= space.ndim; ++d) {
    if (run == elements) return d;
    if (d < space.ndim) run *= space.sizes[d];
  }
  return -1;
}

bool repeats(const Window& window, int dims) {
  for (int d = 0; d < dims; ++d)
    if (window.strides[d] != 0) return false;
  return true;
}

Window spread(const Window& window, const Space& coarse, const Space& fine) {
  Window result{window.data, window.dtype, {}};
  int at = 0;
  for (int d = 0; d < coarse.ndim; ++d) {
    int64_t stride = window.strides[d];
    for (int64_t covered = 1; covered < coarse.sizes[d]; ++at) {
      result.strides[at] = stride;
      stride *= fine.sizes[at];
      covered *= fine.sizes[at];
    }
  }
  return result;
}

}  // namespace vt::fuse
