// The maximum of a row and the sum of exp(x - maximum), found together in one walk (Milakov and
// Gimelshein, "Online normalizer calculation for softmax", 2018).
#pragma once
#include <limits>

#include "kernels/cuda/block.h"
#include "kernels/math.h"

namespace vt::cuda {

__device__ __forceinline__ float power_of_two(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// exp as exactly as its rounding to T shows: for 16-bit types the hardware's power of 2, whose
// error is below 1e-5 of the result where that does not vanish.
template <class T, class C>
__device__ __forceinline__ C row_exp(C x) {
  if constexpr (sizeof(T) == 2) {
    return power_of_two(x * math::kLog2e);
  } else {
    return math::exp(x);
  }
}

template <class C>
struct MaxSum {
  C max, sum;

  static __device__ __forceinline__ MaxSum empty() {
    return {-std::numeric_limits<C>::infinity(), C(0)};
  }
  // A NaN, and plus infinity as the definition has it, make the sum NaN.
  template <class T, int V>
  __device__ __forceinline__ void add(const C (&x)[V]) {
    C most = x[0];
#pragma unroll
    for (int j = 1; j < V; ++j) most = x[j] > most ? x[j] : most;
    if (most > max) {
      sum *= row_exp<T>(max - most);
      max = most;
    }
    const C base = max == -std::numeric_limits<C>::infinity() ? C(0) : max;
#pragma unroll
    for (int j = 0; j < V; ++j) sum += row_exp<T>(x[j] - base);
  }
};
template <class T>
struct MergeMaxSum {
  template <class C>
  __device__ __forceinline__ MaxSum<C> operator()(MaxSum<C> a, MaxSum<C> b) const {
    const C max = a.max > b.max ? a.max : b.max;
    const C left = a.max == max ? a.sum : a.sum * row_exp<T>(a.max - max);
    const C right = b.max == max ? b.sum : b.sum * row_exp<T>(b.max - max);
    return {max, left + right};
  }
};

}  // namespace vt::cuda
