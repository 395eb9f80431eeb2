// What a reduction does with each element: map it into the accumulator, combine two accumulators,
// finish the result. With kWidens, mapping is a conversion to the accumulator's type and `adjust`.
#pragma once
#include <limits>

#include "kernels/cuda/launch.h"

namespace vt::cuda {

// Integers and bool add up in int64, 16-bit floats in float.
template <class T>
using sum_t = std::conditional_t<is_float(DTypeOf<T>::value), compute_t<T>, int64_t>;
template <class T>
using sum_out_t = std::conditional_t<is_float(DTypeOf<T>::value), T, int64_t>;

template <class T>
struct SumReduction {
  using Acc = sum_t<T>;
  using Out = sum_out_t<T>;
  static constexpr bool kWidens = true;
  double divisor = 1;  // the count for a mean

  __device__ Acc identity() const { return 0; }
  __device__ Acc adjust(Acc value) const { return value; }
  __device__ Acc operator()(Acc a, Acc b) const { return a + b; }
  __device__ Out finish(Acc value) const {
    if constexpr (std::is_floating_point_v<Acc>)
      return convert<Out>(value / static_cast<Acc>(divisor));
    else return convert<Out>(value);
  }
};

template <class T>
struct ProductReduction {
  using Acc = sum_t<T>;
  using Out = sum_out_t<T>;

  static constexpr bool kWidens = true;

  __device__ Acc identity() const { return 1; }
  __device__ Acc adjust(Acc value) const { return value; }
  __device__ Acc operator()(Acc a, Acc b) const { return a * b; }
  __device__ Out finish(Acc value) const { return convert<Out>(value); }
};

// Maximum or minimum; NaN wins. Of floats the minimum is the maximum with the sign turned, so that
// one instruction combines two of them.
template <class T>
struct ExtremeReduction {
  using Acc = compute_t<T>;
  using Out = T;
  static constexpr bool kWidens = true, kFloat = std::is_floating_point_v<Acc>;
  bool largest;

  __device__ Acc identity() const {
    using L = std::numeric_limits<Acc>;
    if constexpr (kFloat) return -L::infinity();
    else return largest ? L::lowest() : L::max();
  }
  __device__ Acc adjust(Acc value) const {
    if constexpr (kFloat) return largest ? value : -value;
    else return value;
  }
  __device__ Acc operator()(Acc a, Acc b) const {
    if constexpr (sizeof(Acc) == 4 && kFloat) {
      float result;
      asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
      return result;
    } else if constexpr (kFloat) {
      return a > b || a != a ? a : b;  // a NaN in b fails the comparison, and is returned
    } else {
      return (largest ? a > b : a < b) ? a : b;
    }
  }
  __device__ Out finish(Acc value) const { return convert<Out>(adjust(value)); }
};

template <class T>
struct TruthReduction {
  using Acc = int;
  using Out = bool;
  static constexpr bool kWidens = false;
  bool all;

  __device__ Acc identity() const { return all; }
  __device__ Acc map(T value) const { return convert<bool>(value); }
  __device__ Acc operator()(Acc a, Acc b) const { return all ? (a & b) : (a | b); }
  __device__ Out finish(Acc value) const { return value != 0; }
};

}  // namespace vt::cuda
