// GELU in its tanh form, and its gradient, by the tanh of the hardware: good to 11 bits, as much as
// 16-bit floats ask for.
#pragma once
#include <cutlass/array.h>

namespace vt::cuda::gelu {

inline constexpr float kSlope = 0.7978845608028654f;  // sqrt(2/pi)
inline constexpr float kCubicSlope = 0.7978845608028654f * 0.044715f;

// tanh(sqrt(2/pi) (x + 0.044715 x^3)), of x and its square.
__device__ __forceinline__ float tanh_of(float x, float square) {
  float result;
  asm("tanh.approx.f32 %0, %1;" : "=f"(result) : "f"(x * (kSlope + kCubicSlope * square)));
  return result;
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
    for (int i = 0; i < N; ++i) {
      const float half = 0.5f * x[i];
      result[i] = half + half * tanh_of(x[i], x[i] * x[i]);
    }
    return result;
  }
};

// GELU and its slope, of arrays of numbers. They share more than the tanh: with gate = (1 + t) / 2,
// x (1 - t^2) is 4 gelu (1 - gate), which is 0 for large x, whose cube may be infinite.
template <int N>
CUTLASS_DEVICE void gelu_and_slope(cutlass::Array<float, N>& gelu, cutlass::Array<float, N>& slope,
                                   const cutlass::Array<float, N>& x) {
  CUTLASS_PRAGMA_UNROLL
  for (int i = 0; i < N; ++i) {
    const float square = x[i] * x[i];
    const float gate = 0.5f + 0.5f * tanh_of(x[i], square);
    gelu[i] = x[i] * gate;
    const float rest = gelu[i] - gelu[i] * gate;
    slope[i] = gate + rest * (2.0f * kSlope + 6.0f * kCubicSlope * square);
  }
}

template <class T>
struct Gradient;
template <int N>
struct Gradient<cutlass::Array<float, N>> {
  using Values = cutlass::Array<float, N>;
  CUTLASS_DEVICE Values operator()(const Values& grad, const Values& x) const {
    Values result;
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < N; ++i) {
      const float square = x[i] * x[i];
      const float t = tanh_of(x[i], square);
      const float bell = x[i] * (1.0f - t * t);  // first: 0 for large x, whose cube may be infinite
      const float slope = 0.5f * kSlope + 1.5f * kCubicSlope * square;
      result[i] = grad[i] * ((0.5f + 0.5f * t) + bell * slope);
    }
    return result;
  }
};

}  // namespace vt::cuda::gelu
