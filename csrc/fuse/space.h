// The space that an elementwise kernel runs over: sizes, innermost first, without dimensions of one
// element. Two kernels may become one where their spaces have a common refinement.
#pragma once
#include "iter/elementwise.h"

namespace vt::fuse {

struct Space {
  int ndim = 0;
  int64_t sizes[kMaxDims];

  int64_t numel() const {
    int64_t result = 1;
    for (int d = 0; d < ndim; ++d) result *= sizes[d];
    return result;
  }
};

// A window of memory as an element walks it: byte strides for each dimension of a space.
struct Window {
  char* data = nullptr;
  DType dtype = DType::kF32;
  int64_t strides[kMaxDims] = {};

  // The bytes from the first element to the end of the last.
  const char* end(const Space& space) const;
  bool same(const Window& other, const Space& space) const;
};

// Memory that was given back before anything wrote it has addresses from here on: Note [Memory that
// is given back early].
inline constexpr uintptr_t kUnplaced = uintptr_t{1} << 60;
inline bool is_unplaced(const Window& window) {
  return reinterpret_cast<uintptr_t>(window.data) >= kUnplaced;
}

inline bool overlap(const char* a, const char* a_end, const char* b, const char* b_end) {
  return a < b_end && b < a_end;
}

// The coarsest space that both are made of by merging neighbours: [12] and [4, 3] give [4, 3].
// False where there is none, as for [6, 2] and [4, 3].
bool refine(const Space& a, const Space& b, Space& fine);

// The space with a dimension of `size` inside of all others, along which every window of a kernel
// over `space` repeats.
Space lifted(const Space& space, int64_t size);
Window lifted(const Window& window, const Space& space);

// How many innermost dimensions have `elements` elements together; -1 where none have.
int dims_of_row(const Space& space, int64_t elements);
// Does the window repeat along the innermost `dims` dimensions?
bool repeats(const Window& window, int dims);

// `window` of the space `coarse` as seen from its refinement `fine`.
Window spread(const Window& window, const Space& coarse, const Space& fine);

}  // namespace vt::fuse
