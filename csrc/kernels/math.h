// Float transcendentals for host and device. On the device they are CUDA's own; on the host they
// are branch-free, so that loops over them become vector code, and stay within 2.4 ulp (most
// within 1.5). Double uses libm on both.
//
// Methods: exp and expm1 reduce by multiples of ln 2 in two parts (Cody and Waite 1980); log and
// log1p use the atanh series form of Tang (1990) as in fdlibm; erf is x + x p(x^2) near 0 and 1 -
// exp(-x - x q(x)) beyond (the form of W. J. Cody 1969, with one exponential); pow works in double.
// The coefficients are weighted minimax fits of our own.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/half.h"

namespace vt::math {

VT_HD double bits_to_double(int64_t bits) {
#if defined(__CUDA_ARCH__)
  return __longlong_as_double(bits);
#else
  double value;
  std::memcpy(&value, &bits, 8);
  return value;
#endif
}
VT_HD int64_t double_to_bits(double value) {
#if defined(__CUDA_ARCH__)
  return __double_as_longlong(value);
#else
  int64_t bits;
  std::memcpy(&bits, &value, 8);
  return bits;
#endif
}

VT_HD float abs(float x) { return float_of_bits(bits_of(x) & 0x7fffffffu); }
VT_HD float copysign(float magnitude, float sign) {
  return float_of_bits((bits_of(magnitude) & 0x7fffffffu) | (bits_of(sign) & 0x80000000u));
}
// 2^n for -126 <= n <= 127.
VT_HD float power_of_two(int32_t n) { return float_of_bits(static_cast<uint32_t>(n + 127) << 23); }

inline constexpr float kInf = __builtin_inff();
inline constexpr float kNan = __builtin_nanf("");
inline constexpr float kLog2e = 1.44269504088896341f;
inline constexpr float kLn2High = 0.693145751953125f;  // 17 bits: n * kLn2High is exact
inline constexpr float kLn2Low = 1.42860682030941723e-6f;
inline constexpr float kRoundMagic =
    12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer
inline constexpr double kRoundMagicDouble = 6755399441055744.0;

namespace host {

struct Reduced {
  float r;    // x - n ln 2
  int32_t n;  // garbage for a NaN, whose r is NaN
};
VT_HD Reduced reduce_by_ln2(float x) {
  const float shifted = x * kLog2e + kRoundMagic;
  const float n = shifted - kRoundMagic;
  return {(x - n * kLn2High) - n * kLn2Low,
          static_cast<int32_t>(bits_of(shifted)) - static_cast<int32_t>(0x4b400000)};
}

VT_HD float exp(float x) {
  x = x > 89.0f ? 89.0f : x;
  x = x < -104.0f ? -104.0f : x;
  const auto [r, n] = reduce_by_ln2(x);
  float p = 1.381982351e-03f;
  p = p * r + 8.368686773e-03f;
  p = p * r + 4.166827723e-02f;
  p = p * r + 1.666652113e-01f;
  p = p * r + 4.999999404e-01f;
  p = p * (r * r) + r;
  // Two steps, so that results below 2^-126 round once and those above 2^127 do not overflow early.
  const int32_t half = n >> 1;
  return ((p + 1.0f) * power_of_two(half)) * power_of_two(n - half);
}

// For -18 <= x <= 88, or NaN.
VT_HD float expm1_core(float x) {
  const auto [r, n] = reduce_by_ln2(x);
  float p = 1.976424537e-04f;
  p = p * r + 1.393234241e-03f;
  p = p * r + 8.333543316e-03f;
  p = p * r + 4.166649282e-02f;
  p = p * r + 1.666666567e-01f;
  p = p * r + 0.5f;
  p = p * (r * r) + r;
  const float half_scale = power_of_two(n - 1);
  return 2.0f * (p * half_scale + (half_scale - 0.5f));
}
VT_HD float expm1(float x) {
  float y = x > 88.8f ? 88.8f : x;
  y = y < -18.0f ? -18.0f : y;
  const float result = expm1_core(y);
  return abs(x) < 5.9604645e-8f ? x : result;
}

// log(u (1 + c / u)) with a small correction c, for u > 0, in three parts: k ln 2, f and the rest.
struct LogParts {
  float k, f, half_square, tail;  // log = k ln2 + f - half_square + tail
};
VT_HD LogParts log_parts(float u) {
  const bool subnormal = u < 1.17549435e-38f;
  const uint32_t bits = bits_of(subnormal ? u * 8388608.0f : u);
  // Centre the fraction on [sqrt(1/2), sqrt(2)).
  const uint32_t shifted = bits - 0x3f3504f3u;
  const int32_t k = (static_cast<int32_t>(shifted) >> 23) - (subnormal ? 23 : 0);
  const float f = float_of_bits((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  const float s = f / (2.0f + f);
  const float z = s * s;
  float p = 2.428001165e-01f;
  p = p * z + 2.849876583e-01f;
  p = p * z + 4.000097215e-01f;
  p = p * z + 6.666666269e-01f;
  const float half_square = 0.5f * f * f;
  return {static_cast<float>(k), f, half_square, s * (half_square + z * p)};
}
VT_HD float log_limits(float x, float result) {
  result = x == kInf ? kInf : result;
  result = x == 0.0f ? -kInf : result;
  return (x < 0.0f) | (x != x) ? kNan : result;
}
VT_HD float log(float x) {
  const LogParts l = log_parts(x);
  return log_limits(x, l.k * kLn2High - ((l.half_square - (l.tail + l.k * kLn2Low)) - l.f));
}
VT_HD float log2(float x) {
  const LogParts l = log_parts(x);
  const float m = l.f - (l.half_square - l.tail);
  return log_limits(x, m * 1.44269504f + (m * 8.90422094e-9f + l.k));
}
VT_HD float log1p(float x) {
  const float u = 1.0f + x;
  const float lost = x > 1.0f ? 1.0f - (u - x) : x - (u - 1.0f);
  const LogParts l = log_parts(u);
  const float correction = lost / u;
  float result = l.k * kLn2High - ((l.half_square - (l.tail + (l.k * kLn2Low + correction))) - l.f);
  result = abs(x) < 5.9604645e-8f ? x : result;
  return abs(x) < 5.9604645e-8f ? x : log_limits(u, result);
}

VT_HD float tanh(float x) {
  float a = abs(x);
  a = a > 10.0f ? 10.0f : a;
  const float t = expm1_core(2.0f * a);
  const float result = a < 2.4e-4f ? a : t / (t + 2.0f);
  return copysign(result, x);
}

VT_HD float sigmoid(float x) { return 1.0f / (1.0f + host::exp(-x)); }

VT_HD float erf(float x) {
  float a = abs(x);
  a = a > 4.0f ? 4.0f : a;
  const float z = x * x;
  float p = -5.970303318e-04f;
  p = p * z + 4.989436828e-03f;
  p = p * z + -2.676435746e-02f;
  p = p * z + 1.128176749e-01f;
  p = p * z + -3.761249185e-01f;
  p = p * z + 1.283791512e-01f;
  const float near = p * x + x;
  float q = 4.803435331e-06f;
  q = q * a + -4.393453855e-05f;
  q = q * a + -5.800504005e-05f;
  q = q * a + 2.953507472e-03f;
  q = q * a + -2.271210030e-02f;
  q = q * a + 1.052988917e-01f;
  q = q * a + 6.356065273e-01f;
  q = q * a + 1.285558194e-01f;
  const float far = 1.0f - host::exp(-(q * a + a));
  return a > 0.9277f ? copysign(far, x) : near;
}

// sin(x + quarter * pi/2) for |x| < kSinLimit: reduced by multiples of pi/2 in double, in three
// parts of which the products of the first two are exact, then a polynomial in float.
inline constexpr float kSinLimit = 1073741824.0f;  // 2^30
VT_HD float sin_quarter(float x, uint32_t quarter) {
  const double wide = static_cast<double>(x);
  const double scaled = wide * 0.63661977236758134 + kRoundMagicDouble;
  const double n = scaled - kRoundMagicDouble;
  const float r = static_cast<float>(
      ((wide - n * 0x1.921fb40000000p+0) - n * 0x1.4442d00000000p-24) - n * 0x1.8469898cc5170p-48);
  const uint32_t q = static_cast<uint32_t>(double_to_bits(scaled)) + quarter;
  const float z = r * r;
  float s = 2.837247621e-06f;
  s = s * z + -1.985349809e-04f;
  s = s * z + 8.333380334e-03f;
  s = s * z + -1.666666716e-01f;
  const float sine = s * z * r + r;
  float c = 2.443066114e-05f;
  c = c * z + -1.388730132e-03f;
  c = c * z + 4.166664556e-02f;
  const float cosine = (c * z) * z + (1.0f - 0.5f * z);
  const float chosen = (q & 1u) != 0 ? cosine : sine;
  return float_of_bits(bits_of(chosen) ^ ((q & 2u) << 30));
}

// |x|^y through double, then the sign and the special cases of C's pow.
VT_HD float pow(float x, float y) {
  const float a = abs(x);
  const bool subnormal = a < 1.17549435e-38f;
  const uint32_t shifted = bits_of(subnormal ? a * 8388608.0f : a) - 0x3f3504f3u;
  const int32_t k = (static_cast<int32_t>(shifted) >> 23) - (subnormal ? 23 : 0);
  const double m = static_cast<double>(float_of_bits((shifted & 0x007fffffu) + 0x3f3504f3u));
  const double s = (m - 1.0) / (m + 1.0), z = s * s;
  double p = 2.0 / 17;
  p = p * z + 2.0 / 15;
  p = p * z + 2.0 / 13;
  p = p * z + 2.0 / 11;
  p = p * z + 2.0 / 9;
  p = p * z + 2.0 / 7;
  p = p * z + 2.0 / 5;
  p = p * z + 2.0 / 3;
  p = p * z + 2.0;
  double log_a = p * s + static_cast<double>(k) * 0.6931471805599453;
  log_a = a == kInf ? static_cast<double>(kInf) : log_a;
  log_a = a == 0.0f ? -static_cast<double>(kInf) : log_a;
  double t = static_cast<double>(y) * log_a;
  t = t > 100.0 ? 100.0 : t;
  t = t < -120.0 ? -120.0 : t;
  const double scaled = t * 1.4426950408889634 + kRoundMagicDouble;
  const double n = scaled - kRoundMagicDouble;
  const double r = t - n * 0.6931471805599453;
  double e = 1.0 / 362880;
  e = e * r + 1.0 / 40320;
  e = e * r + 1.0 / 5040;
  e = e * r + 1.0 / 720;
  e = e * r + 1.0 / 120;
  e = e * r + 1.0 / 24;
  e = e * r + 1.0 / 6;
  e = e * r + 0.5;
  e = e * r + 1.0;
  e = e * r + 1.0;
  const int64_t exponent = (double_to_bits(scaled) - double_to_bits(kRoundMagicDouble) + 1023)
                           << 52;
  float result = static_cast<float>(e * bits_to_double(exponent));

  const float size_y = abs(y);
  // Below 2^23, adding 2^23 rounds to an integer, whose last bit says whether it is odd; from 2^24
  // on all are even.
  const float shifted_y = size_y + (size_y < 8388608.0f ? 8388608.0f : 0.0f);
  const float whole = shifted_y - (size_y < 8388608.0f ? 8388608.0f : 0.0f);
  const bool integral = whole == size_y;
  const uint32_t sign = bits_of(x) & 0x80000000u;
  const uint32_t last = integral & (size_y < 16777216.0f) ? 0x80000000u : 0u;
  const uint32_t odd = (bits_of(shifted_y) << 31) & last;
  result = float_of_bits(bits_of(result) ^ (sign & odd));
  const bool no_power = (sign != 0) & !integral & (a != 0.0f) & (a != kInf);
  result = no_power | (x != x) | (y != y) ? kNan : result;
  result = (a == 1.0f) & (size_y == kInf) ? 1.0f : result;
  return (x == 1.0f) | (y == 0.0f) ? 1.0f : result;
}

}  // namespace host

// Each name below exists for float and double.
#if defined(__CUDA_ARCH__)
#define VT_MATH_FLOAT(name, arguments, device_call, host_call) \
  VT_HD float name arguments { return device_call; }
#else
#define VT_MATH_FLOAT(name, arguments, device_call, host_call) \
  VT_HD float name arguments { return host_call; }
#endif
VT_MATH_FLOAT(exp, (float x), ::expf(x), host::exp(x))
VT_MATH_FLOAT(expm1, (float x), ::expm1f(x), host::expm1(x))
VT_MATH_FLOAT(log, (float x), ::logf(x), host::log(x))
VT_MATH_FLOAT(log2, (float x), ::log2f(x), host::log2(x))
VT_MATH_FLOAT(log1p, (float x), ::log1pf(x), host::log1p(x))
VT_MATH_FLOAT(tanh, (float x), ::tanhf(x), host::tanh(x))
VT_MATH_FLOAT(erf, (float x), ::erff(x), host::erf(x))
VT_MATH_FLOAT(pow, (float x, float y), ::powf(x, y), host::pow(x, y))
VT_MATH_FLOAT(sigmoid, (float x), __fdividef(1.0f, 1.0f + ::expf(-x)), host::sigmoid(x))
VT_MATH_FLOAT(rsqrt, (float x), ::rsqrtf(x), 1.0f / ::sqrtf(x))
#undef VT_MATH_FLOAT

VT_HD double exp(double x) { return ::exp(x); }
VT_HD double expm1(double x) { return ::expm1(x); }
VT_HD double log(double x) { return ::log(x); }
VT_HD double log2(double x) { return ::log2(x); }
VT_HD double log1p(double x) { return ::log1p(x); }
VT_HD double tanh(double x) { return ::tanh(x); }
VT_HD double erf(double x) { return ::erf(x); }
VT_HD double pow(double x, double y) { return ::pow(x, y); }
VT_HD double sigmoid(double x) { return 1.0 / (1.0 + ::exp(-x)); }
VT_HD double rsqrt(double x) { return 1.0 / ::sqrt(x); }

// Within 2^-21 of 1 where x is small, 2^-18 of the result where x is -80: two instructions for an
// exponential where expf takes eight.
VT_HD float coarse_sigmoid(float x) {
#if defined(__CUDA_ARCH__)
  float power, result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(-kLog2e * x));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(1.0f + power));
  return result;
#else
  return host::sigmoid(x);
#endif
}
VT_HD double coarse_sigmoid(double x) { return sigmoid(x); }

// The standard normal distribution at x: `cdf` below it, and exp(-x^2 / 2).
template <class C>
struct Normal {
  C cdf, bell;
};
// On the device the tail is exp(-x^2 / 2) times a polynomial in 1 / (1 + 0.3 |x|), the form of
// Hastings (1955): one exponential for both, within 4e-7 of the smaller side.
VT_HD Normal<float> normal(float x) {
#if defined(__CUDA_ARCH__)
  float bell, t;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(bell) : "f"(-0.5f * kLog2e * (x * x)));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(t) : "f"(::fmaf(0.3f, ::fabsf(x), 1.0f)));
  float p = ::fmaf(0.035674848871260496f, t, -0.15720337580579616f);
  p = ::fmaf(p, t, 0.2063539773499484f);
  p = ::fmaf(p, t, -0.05368404470995404f);
  p = ::fmaf(p, t, 0.12856182047691694f);
  p = ::fmaf(p, t, 0.09991343883134796f);
  p = ::fmaf(p, t, 0.12075396371666464f);
  p = ::fmaf(p, t, 0.11962929838074793f);
  const float tail = p * t * bell;
  return {x < 0.0f ? tail : 1.0f - tail, bell};
#else
  return {0.5f * (1.0f + host::erf(x * 0.70710678118654752f)), host::exp(-0.5f * x * x)};
#endif
}
VT_HD Normal<double> normal(double x) {
  return {0.5 * (1.0 + ::erf(x * 0.70710678118654752440)), ::exp(-0.5 * x * x)};
}

VT_HD float sin(float x) { return ::sinf(x); }
VT_HD float cos(float x) { return ::cosf(x); }
VT_HD double sin(double x) { return ::sin(x); }
VT_HD double cos(double x) { return ::cos(x); }
VT_HD float sqrt(float x) { return ::sqrtf(x); }
VT_HD double sqrt(double x) { return ::sqrt(x); }
VT_HD float fmod(float x, float y) { return ::fmodf(x, y); }
VT_HD double fmod(double x, double y) { return ::fmod(x, y); }
VT_HD float floor(float x) { return ::floorf(x); }
VT_HD double floor(double x) { return ::floor(x); }
VT_HD float ceil(float x) { return ::ceilf(x); }
VT_HD double ceil(double x) { return ::ceil(x); }
VT_HD float trunc(float x) { return ::truncf(x); }
VT_HD double trunc(double x) { return ::trunc(x); }
VT_HD float rint(float x) { return ::rintf(x); }  // halves to even
VT_HD double rint(double x) { return ::rint(x); }
VT_HD double abs(double x) { return ::fabs(x); }
VT_HD double copysign(double magnitude, double sign) { return ::copysign(magnitude, sign); }

}  // namespace vt::math
