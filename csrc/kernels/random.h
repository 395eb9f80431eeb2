// How random bits become numbers, shared by CPU and CUDA: every step is one correctly rounded
// operation (fma where a product is added), so both give the same bits (normal doubles use the
// logarithm and cosine of each side, and agree to 2 ulp). The normal distribution is that of Box
// and Muller (1958).
#pragma once
#include <cmath>

#include "device/philox.h"
#include "kernels/math.h"

namespace vt::random {

VT_HD float fma(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}

VT_HD double fma(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
  return __fma_rn(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}

// In [0, 1), with as many bits as T keeps, so that rounding to T never gives 1.
template <class T>
VT_HD float unit(uint32_t bits) {
  return uniform_float(bits);
}
template <>
VT_HD float unit<Half>(uint32_t bits) {
  return static_cast<float>(bits >> 21) * 0x1p-11f;
}
template <>
VT_HD float unit<BFloat16>(uint32_t bits) {
  return static_cast<float>(bits >> 24) * 0x1p-8f;
}

// Note [Two elements a word]
// Dropout decides two elements with one random word: the first with its halves swapped, the second
// with the word itself. An element is kept where these 32 bits are not below least_kept(p), so each
// is dropped with probability p, to 2^-32. The halves are independent, and an element needs the
// other's bits only where its own 16 are those of the bound: what one is tells of the other with
// a probability of 2^-16.
VT_HD uint32_t keep_bits(uint32_t word, bool second) {
  return second ? word : word << 16 | word >> 16;
}
// For p = 1 a few are still above: the scale of what is kept is 0 then.
inline uint32_t least_kept(double p) {
  return static_cast<uint32_t>(std::fmin(std::ceil(p * 0x1p32), 4294967295.0));
}
inline double kept_scale(double p) { return p < 1 ? 1 / (1 - p) : 0.0; }

// ln u for a normal 2^-33 <= u <= 1, as math::host::log but with its roundings spelled out.
VT_HD float log_unit(float u) {
  const uint32_t shifted = bits_of(u) - 0x3f3504f3u;
  const float k = static_cast<float>(static_cast<int32_t>(shifted) >> 23);
  const float f = float_of_bits((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  const float s = f / (2.0f + f);
  const float z = s * s;
  float p = 2.428001165e-01f;
  p = fma(p, z, 2.849876583e-01f);
  p = fma(p, z, 4.000097215e-01f);
  p = fma(p, z, 6.666666269e-01f);
  const float half_square =
      fma(0.5f * f, f, 0.0f);  // spelled out: the subtraction below must not take the product in
  const float tail = s * fma(z, p, half_square);
  return fma(k, math::kLn2High, fma(k, math::kLn2Low, tail) - half_square + f);
}

struct NormalPair {
  float first, second;
};
VT_HD NormalPair normal_pair(uint32_t a, uint32_t b) {
  const float u = fma(static_cast<float>(a), 0x1p-32f, 0x1p-33f);
  const float radius = math::sqrt(-2.0f * log_unit(u));
  // The angle 2 pi v as a quarter turn q and the rest r in [-pi/4, pi/4].
  const uint32_t turns = b + 0x20000000u;
  const uint32_t q = turns >> 30;
  const float rest = static_cast<float>(static_cast<int32_t>((turns & 0x3fffffffu)) - 0x20000000);
  const float r = rest * (6.28318530717958647692f * 0x1p-32f);
  const float z = r * r;
  float s = -1.951840823e-04f;
  s = fma(s, z, 8.332190104e-03f);
  s = fma(s, z, -1.666665524e-01f);
  const float sine = fma(s * z, r, r);
  float c = 2.443066114e-05f;
  c = fma(c, z, -1.388730132e-03f);
  c = fma(c, z, 4.166664556e-02f);
  c = fma(c, z, -0.5f);
  const float cosine = fma(c, z, 1.0f);
  const bool swapped = (q & 1u) != 0;
  const float x = swapped ? sine : cosine, y = swapped ? cosine : sine;
  // (cos, sin) of q quarter turns further: signs (+,+), (-,+), (-,-), (+,-).
  const float first = float_of_bits(bits_of(x) ^ (((q + 1u) & 2u) << 30));
  const float second = float_of_bits(bits_of(y) ^ ((q & 2u) << 30));
  return {radius * first, radius * second};
}

// Double precision draws from a counter of its own, whose four words it takes.
VT_HD double normal_double(const Philox4& w) {
  const double u = 1.0 - uniform_double(w.v[0], w.v[1]);
  const double v = uniform_double(w.v[2], w.v[3]);
  return math::sqrt(-2.0 * math::log(u)) * math::cos(6.283185307179586477 * v);
}

// In [0, range): the high half of a 128-bit product (Lemire 2019, without the rejection, whose
// effect is below 2^-64 times the range). Takes the first two words of a counter of its own.
VT_HD uint64_t below(const Philox4& w, uint64_t range) {
  const uint64_t bits = (static_cast<uint64_t>(w.v[0]) << 32) | w.v[1];
#if defined(__CUDA_ARCH__)
  return __umul64hi(bits, range);
#else
  return static_cast<uint64_t>((static_cast<unsigned __int128>(bits) * range) >> 64);
#endif
}

}  // namespace vt::random
