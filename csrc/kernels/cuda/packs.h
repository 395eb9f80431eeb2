// Packs of elements as numbers to compute with, and back: 16-bit floats two at a time, in one
// instruction for each number one way and for both the other way.
#pragma once
#include <cstring>
#include <limits>

#include "kernels/cuda/block.h"

namespace vt::cuda {

// Two 16-bit floats in a word, the first in the low half.
template <class T>
struct Pairs;
template <>
struct Pairs<BFloat16> {
  static constexpr uint32_t kLowest = 0xff80ff80u;  // minus infinity
  static __device__ __forceinline__ float2 unpack(uint32_t word) {
    return {__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u)};
  }
  static __device__ __forceinline__ uint32_t pack(float first, float second) {
    uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
    return word;
  }
  static __device__ __forceinline__ uint32_t larger(uint32_t a, uint32_t b) {
    uint32_t word;
    asm("max.bf16x2 %0, %1, %2;" : "=r"(word) : "r"(a), "r"(b));
    return word;
  }
  // The larger or the smaller; NaN wins.
  template <bool kLargest>
  static __device__ __forceinline__ uint32_t extreme(uint32_t a, uint32_t b) {
    uint32_t word;
    if constexpr (kLargest) asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(word) : "r"(a), "r"(b));
    else asm("min.NaN.bf16x2 %0, %1, %2;" : "=r"(word) : "r"(a), "r"(b));
    return word;
  }
};
template <>
struct Pairs<Half> {
  static constexpr uint32_t kLowest = 0xfc00fc00u;
  static __device__ __forceinline__ float2 unpack(uint32_t word) {
    float2 pair;
    asm("{ .reg .b16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; "
        "cvt.f32.f16 %1, high; }"
        : "=f"(pair.x), "=f"(pair.y)
        : "r"(word));
    return pair;
  }
  static __device__ __forceinline__ uint32_t pack(float first, float second) {
    uint32_t word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
    return word;
  }
  static __device__ __forceinline__ uint32_t larger(uint32_t a, uint32_t b) {
    uint32_t word;
    asm("max.f16x2 %0, %1, %2;" : "=r"(word) : "r"(a), "r"(b));
    return word;
  }
  // The larger or the smaller; NaN wins.
  template <bool kLargest>
  static __device__ __forceinline__ uint32_t extreme(uint32_t a, uint32_t b) {
    uint32_t word;
    if constexpr (kLargest) asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(word) : "r"(a), "r"(b));
    else asm("min.NaN.f16x2 %0, %1, %2;" : "=r"(word) : "r"(a), "r"(b));
    return word;
  }
};

template <class T>
inline constexpr bool kIsPair = std::is_same_v<T, BFloat16> || std::is_same_v<T, Half>;

// Packs come by value: the copy of a whole pack out of memory is one load, where memcpy would not
// know its alignment.

// The elements of a pack as numbers of type C.
template <class C, class T, int V>
__device__ __forceinline__ Pack<C, V> widen(Pack<T, V> pack) {
  Pack<C, V> wide;
  if constexpr (kIsPair<T> && std::is_same_v<C, float> && V % 2 == 0) {
    uint32_t words[V / 2];
    memcpy(words, &pack, sizeof words);
#pragma unroll
    for (int j = 0; j < V / 2; ++j) {
      const float2 pair = Pairs<T>::unpack(words[j]);
      wide.v[2 * j] = pair.x;
      wide.v[2 * j + 1] = pair.y;
    }
  } else {
#pragma unroll
    for (int j = 0; j < V; ++j) wide.v[j] = convert<C>(pack.v[j]);
  }
  return wide;
}

// Numbers rounded to elements of type T.
template <class T, class C, int V>
__device__ __forceinline__ Pack<T, V> narrow(Pack<C, V> wide) {
  Pack<T, V> pack;
  if constexpr (kIsPair<T> && std::is_same_v<C, float> && V % 2 == 0) {
    uint32_t words[V / 2];
#pragma unroll
    for (int j = 0; j < V / 2; ++j) words[j] = Pairs<T>::pack(wide.v[2 * j], wide.v[2 * j + 1]);
    memcpy(&pack, words, sizeof words);
  } else {
#pragma unroll
    for (int j = 0; j < V; ++j) pack.v[j] = convert<T>(wide.v[j]);
  }
  return pack;
}

// The largest element of several packs; NaNs are passed over.
template <class T, class C>
class Largest {
 public:
  template <int V>
  __device__ __forceinline__ void see(Pack<T, V> pack) {
    if constexpr (kIsPair<T> && V % 2 == 0) {
      uint32_t words[V / 2];
      memcpy(words, &pack, sizeof words);
#pragma unroll
      for (const uint32_t word : words) pairs_ = Pairs<T>::larger(pairs_, word);
    } else {
#pragma unroll
      for (int j = 0; j < V; ++j) single_ = LargerOp{}(single_, convert<C>(pack.v[j]));
    }
  }
  __device__ __forceinline__ C value() const {
    if constexpr (kIsPair<T>) {
      const float2 both = Pairs<T>::unpack(pairs_);
      return fmaxf(fmaxf(both.x, both.y), single_);
    } else {
      return single_;
    }
  }

 private:
  static constexpr uint32_t lowest() {
    if constexpr (kIsPair<T>) return Pairs<T>::kLowest;
    else return 0;
  }
  uint32_t pairs_ = lowest();
  C single_ = -std::numeric_limits<C>::infinity();
};

}  // namespace vt::cuda
