// A float32 as the sum of three bfloat16 numbers: how products on tensor cores keep all 24 bits.
#pragma once
#include <cstdint>

#include "base/half.h"
#include "base/macros.h"

namespace vt {

// Numbers are scaled by this before they are split. The lowest bit of any float32, 2^-149, is then
// 2^-133, the lowest bit of a bfloat16: none is too small to be split exactly. Magnitudes from
// 2^112 on (5e33) overflow; their last piece is a NaN, which reaches every result they are part of.
inline constexpr float kSplitScale = 65536.0f;

// Note [Three pieces]: high is x rounded to 8 bits, middle what is left rounded to 8 bits, low what
// is left then. With 2^e <= |x| < 2^(e+1): |x - high| <= 2^(e-8), and it is a multiple of 2^(e-23);
// |x - high - middle| <= 2^(e-17), again a multiple of 2^(e-23), so at most 7 bits, which low
// holds. Both subtractions are exact. Of the nine products of the pieces of x and y, three are left
// out: middle * low', low * middle' and low * low'. Together they are at most 2 * 2^-25 + 2^-34 of
// |x||y|, about the half unit in the last place that rounding the product to float32 may cost.
struct SplitPair {
  uint32_t piece[3];  // high, middle, low; each two bfloat16, the first number in the lower half
};

#ifdef __CUDA_ARCH__
__device__ __forceinline__ uint32_t to_bf16_pair(float first, float second) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}
#else
inline uint32_t to_bf16_pair(float first, float second) {
  return uint32_t{BFloat16(first).bits} | uint32_t{BFloat16(second).bits} << 16;
}
#endif
VT_HD float first_of(uint32_t pair) { return float_of_bits(pair << 16); }
VT_HD float second_of(uint32_t pair) { return float_of_bits(pair & 0xffff0000u); }

// Splits two numbers that are scaled already.
VT_HD SplitPair split_pair(float x, float y) {
  const uint32_t high = to_bf16_pair(x, y);
  x -= first_of(high);
  y -= second_of(high);
  const uint32_t middle = to_bf16_pair(x, y);
  x -= first_of(middle);
  y -= second_of(middle);
  // What is left has no bits in its lower half, so nothing is rounded.
  return {{high, middle, bits_of(x) >> 16 | (bits_of(y) & 0xffff0000u)}};
}

}  // namespace vt
