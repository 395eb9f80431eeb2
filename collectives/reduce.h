// The arithmetic of reductions, shared by CPU and GPU code: 16-bit floats are combined in float,
// and always in the order of the ranks, so every backend gives the same bits.
#pragma once
#include <type_traits>

#include "base/dtype.h"

namespace vt::collectives {

// Integers wrap around, as they do in every other operation; unsigned arithmetic is how C++ spells
// that.
template <class T, bool = std::is_integral_v<T>>
struct Wrapping {
  using type = T;
};
template <class T>
struct Wrapping<T, true> {
  using type = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
};
template <class T>
using wrapping_t = typename Wrapping<T>::type;

struct Sum {
  template <class T>
  static VT_HD T combine(T a, T b) {
    return static_cast<T>(static_cast<wrapping_t<T>>(a) + static_cast<wrapping_t<T>>(b));
  }
};

struct Prod {
  template <class T>
  static VT_HD T combine(T a, T b) {
    return static_cast<T>(static_cast<wrapping_t<T>>(a) * static_cast<wrapping_t<T>>(b));
  }
};

// A NaN of any rank wins, in min and max: it must not get lost in a reduction.
struct Min {
  template <class T>
  static VT_HD T combine(T a, T b) {
    return (b < a || b != b) && a == a ? b : a;
  }
};

struct Max {
  template <class T>
  static VT_HD T combine(T a, T b) {
    return (b > a || b != b) && a == a ? b : a;
  }
};

// Divides instead of multiplying by 1/n: that is exact wherever the mean can be written. Integers
// round towards zero.
template <class T>
VT_HD T average(T sum, int ranks) {
  return static_cast<T>(sum / static_cast<T>(ranks));
}

}  // namespace vt::collectives
