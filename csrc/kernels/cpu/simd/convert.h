// Runs of 16-bit floats to float and back. Included by the sources of simd/ only: everything is in
// the namespace of the instruction set.
#pragma once
#if defined(__F16C__)
#include <immintrin.h>
#endif
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "base/dtype.h"

namespace vt::cpu::VT_ISA {

static inline void to_float(float* dst, const BFloat16* src, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) dst[i] = float_of_bits(static_cast<uint32_t>(src[i].bits) << 16);
}
static inline void from_float(BFloat16* dst, const float* src, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) dst[i] = BFloat16(src[i]);
}

static inline void to_float(float* dst, const Half* src, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(dst + i,
                     _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(src + i))));
#endif
#pragma GCC ivdep
  for (; i < n; ++i) dst[i] = static_cast<float>(src[i]);
}
static inline void from_float(Half* dst, const float* src, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT));
#endif
#pragma GCC ivdep
  for (; i < n; ++i) dst[i] = Half(src[i]);
}

// The same names for types that need no conversion, so that kernels over every float type read
// alike: load gives n elements as the compute type, in `scratch` or where they are.
template <class T>
static inline const compute_t<T>* load(const T* src, compute_t<T>* scratch, int64_t n) {
  if constexpr (std::is_same_v<T, compute_t<T>>) {
    return src;
  } else {
    to_float(scratch, src, n);
    return scratch;
  }
}
// Where to compute n elements that `store` then writes to dst.
template <class T>
static inline compute_t<T>* target(T* dst, compute_t<T>* scratch) {
  if constexpr (std::is_same_v<T, compute_t<T>>) return dst;
  else return scratch;
}
template <class T>
static inline void store(T* dst, const compute_t<T>* computed, int64_t n) {
  if constexpr (!std::is_same_v<T, compute_t<T>>) from_float(dst, computed, n);
}

}  // namespace vt::cpu::VT_ISA
