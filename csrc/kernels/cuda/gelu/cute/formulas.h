// GELU in its tanh form, and its gradient, by one exponential and one reciprocal.
//
//   (1 + tanh u) / 2 = 1 / (1 + exp(-2u)),  u = sqrt(2/pi) (x + 0.044715 x^3)
//
// Both instructions are good to about 2^-22, also where the result is close to 0.
#pragma once
#include <cutlass/array.h>

namespace vt::cuda::gelu {

// (1 + tanh u) / 2, of x and its square.
__device__ __forceinline__ float part_of(float x, float square) {
  constexpr float kLinear = -2.302208198144325f;  // -2 sqrt(2/pi) log2(e)
  constexpr float kCubic = -0.1029432395800235f;  // the same times 0.044715
  float power, part;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * (kLinear + kCubic * square)));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(part) : "f"(1.0f + power));
  return part;
}

// A function of one number for arrays of them, as the epilogue's tree wants it.
template <class T>
struct Apply;
template <int N>
struct Apply<cutlass::Array<float, N>> {
  using Values = cutlass::Array<float, N>;
  CUTLASS_DEVICE Values operator()(const Values& x) const {
    Values result;
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < N; ++i) result[i] = x[i] * part_of(x[i], x[i] * x[i]);
    return result;
  }
};

template <class T>
struct Gradient;
template <int N>
struct Gradient<cutlass::Array<float, N>> {
  using Values = cutlass::Array<float, N>;
  CUTLASS_DEVICE Values operator()(const Values& grad, const Values& x) const {
    constexpr float kLinear = 1.5957691216057308f;  // 2 sqrt(2/pi)
    constexpr float kCubic = 0.21406444881780076f;  // the same times 3 * 0.044715
    Values result;
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < N; ++i) {
      const float square = x[i] * x[i];
      const float part = part_of(x[i], square);
      const float slope = x[i] * (kLinear + kCubic * square);
      result[i] = grad[i] * (part + slope * (part - part * part));
    }
    return result;
  }
};

}  // namespace vt::cuda::gelu
