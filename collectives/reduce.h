// The arithmetic of reductions, shared by CPU and GPU code: 16-bit floats are combined in float,
// and always in the order of the ranks, so every backend gives the same bits.
#pragma once
#include <type_traits>

#include "base/dtype.h"
#include "collectives/collective.h"

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

// Calls f(TypeTag<T>{}, Op{}); kAvg comes as Sum, the division is the caller's last step.
template <class F>
void visit_reduction(DType dtype, ReduceOp op, F&& f) {
  visit_dtype(dtype, [&](auto type) {
    if constexpr (!std::is_same_v<typename decltype(type)::type, bool>) {
      switch (op) {
        case ReduceOp::kSum:
        case ReduceOp::kAvg: return f(type, Sum{});
        case ReduceOp::kProd: return f(type, Prod{});
        case ReduceOp::kMin: return f(type, Min{});
        case ReduceOp::kMax: return f(type, Max{});
      }
    } else {
      fail(ErrorKind::kType, "all_reduce: bool tensors cannot be reduced");
    }
  });
}

}  // namespace vt::collectives
