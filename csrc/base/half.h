// The two 16-bit float types as plain storage with exact conversions. All arithmetic on them
// happens in float. Rounding is to nearest even, as IEEE 754 asks.
#pragma once
#include <cstdint>
#include <cstring>

#include "base/macros.h"
#if defined(__CUDACC__) && !defined(__CUDACC_RTC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace vt {

VT_HD uint32_t bits_of(float value) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(value);
#else
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
#endif
}

VT_HD float float_of_bits(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
#endif
}

#if defined(__CUDACC_RTC__)
// Kernels compiled at run time have no CUDA headers: the instructions that the intrinsics become.
__device__ __forceinline__ uint16_t rounded_to_bfloat16(float value) {
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
__device__ __forceinline__ uint16_t rounded_to_half(float value) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
__device__ __forceinline__ float half_to_float(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
#elif defined(__CUDA_ARCH__)
__device__ __forceinline__ uint16_t rounded_to_bfloat16(float value) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(value));
}
__device__ __forceinline__ uint16_t rounded_to_half(float value) {
  return __half_as_ushort(__float2half_rn(value));
}
__device__ __forceinline__ float half_to_float(uint16_t bits) {
  return __half2float(__ushort_as_half(bits));
}
#endif

struct alignas(2) BFloat16 {
  uint16_t bits;

  BFloat16() = default;
  VT_HD explicit BFloat16(float value) {
#if defined(__CUDA_ARCH__)
    bits = rounded_to_bfloat16(value);
#else
    const uint32_t x = bits_of(value);
    const uint32_t rounded = (x + 0x7fffu + ((x >> 16) & 1u)) >> 16;
    bits = static_cast<uint16_t>((x & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
#endif
  }
  VT_HD operator float() const { return float_of_bits(static_cast<uint32_t>(bits) << 16); }
};

struct alignas(2) Half {
  uint16_t bits;

  Half() = default;
  VT_HD explicit Half(float value) {
#if defined(__CUDA_ARCH__)
    bits = rounded_to_half(value);
#else
    // Branch-free so that loops over it vectorise: scale into the subnormal range by a float
    // multiply where needed.
    const uint32_t x = bits_of(value);
    const uint32_t sign = (x >> 16) & 0x8000u;
    const uint32_t magnitude = x & 0x7fffffffu;
    const uint32_t normal = (magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
    // Adding 0.5 aligns the 10 fraction bits of a half subnormal with the low end of the float's
    // fraction.
    const uint32_t subnormal = bits_of(float_of_bits(magnitude) + 0.5f) - 0x3f000000u;
    uint32_t result = magnitude < 0x38800000u ? subnormal : normal;
    result = magnitude >= 0x47800000u ? 0x7c00u : result;
    result = magnitude > 0x7f800000u ? 0x7e00u : result;
    bits = static_cast<uint16_t>(sign | result);
#endif
  }
  VT_HD operator float() const {
#if defined(__CUDA_ARCH__)
    return half_to_float(bits);
#else
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
    const uint32_t magnitude = bits & 0x7fffu;
    const uint32_t normal = (magnitude << 13) + 0x38000000u;
    const uint32_t special = (magnitude << 13) + 0x70000000u;
    // 2^-24 times the integer is exact for subnormals.
    const uint32_t subnormal =
        bits_of(static_cast<float>(static_cast<int32_t>(magnitude)) * 5.9604644775390625e-8f);
    uint32_t result = magnitude < 0x400u ? subnormal : normal;
    result = magnitude >= 0x7c00u ? special : result;
    return float_of_bits(sign | result);
#endif
  }
};

}  // namespace vt
