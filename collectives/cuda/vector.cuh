// 16-byte accesses to memory that other devices read and write, and arithmetic on what they carry.
#pragma once
#include <cstdint>

#include "collectives/reduce.h"

namespace vt::collectives::gpu {

// Around L1, which may hold lines of a peer's memory from before.
__device__ inline uint4 load16(const void* at) {
  uint4 v;
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(at));
  return v;
}

__device__ inline void store16(void* at, uint4 v) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(at), "r"(v.x), "r"(v.y), "r"(v.z),
               "r"(v.w)
               : "memory");
}

// One element, through the same path.
template <class T>
__device__ inline T load_one(const T* at) {
  uint64_t bits = 0;
  if constexpr (sizeof(T) == 1) asm volatile("ld.global.cg.u8 %0, [%1];" : "=l"(bits) : "l"(at));
  else if constexpr (sizeof(T) == 2)
    asm volatile("ld.global.cg.u16 %0, [%1];" : "=l"(bits) : "l"(at));
  else if constexpr (sizeof(T) == 4)
    asm volatile("ld.global.cg.u32 %0, [%1];" : "=l"(bits) : "l"(at));
  else asm volatile("ld.global.cg.u64 %0, [%1];" : "=l"(bits) : "l"(at));
  T value;
  memcpy(&value, &bits, sizeof(T));
  return value;
}

// The i-th Word (8 or 16 bytes) of a buffer of `count` elements of the rank's own; zeros behind its
// end.
template <class Word, class T>
__device__ inline Word load_word(const void* buffer, int64_t i, int64_t count) {
  constexpr int kElements = sizeof(Word) / sizeof(T);
  const T* at = static_cast<const T*>(buffer) + i * kElements;
  if (reinterpret_cast<uintptr_t>(at) % sizeof(Word) == 0 && (i + 1) * kElements <= count)
    return *reinterpret_cast<const Word*>(at);
  T values[kElements] = {};
#pragma unroll
  for (int k = 0; k < kElements; ++k)
    if (i * kElements + k < count) values[k] = at[k];
  Word word;
  memcpy(&word, values, sizeof(Word));
  return word;
}

template <class Word, class T>
__device__ inline void store_word(void* buffer, int64_t i, int64_t count, Word word) {
  constexpr int kElements = sizeof(Word) / sizeof(T);
  T* at = static_cast<T*>(buffer) + i * kElements;
  if (reinterpret_cast<uintptr_t>(at) % sizeof(Word) == 0 && (i + 1) * kElements <= count) {
    *reinterpret_cast<Word*>(at) = word;
    return;
  }
  T values[kElements];
  memcpy(values, &word, sizeof(Word));
#pragma unroll
  for (int k = 0; k < kElements; ++k)
    if (i * kElements + k < count) at[k] = values[k];
}

// `Bytes` of elements of T on their way through a reduction, in the type that T is reduced in.
template <class T, class Op, int Bytes>
struct Lanes {
  static constexpr int kCount = Bytes / static_cast<int>(sizeof(T));
  using Acc = compute_t<T>;
  Acc lane[kCount];

  template <class Raw>
  __device__ void set(const Raw& raw) {
    static_assert(sizeof(Raw) == Bytes);
    T values[kCount];
    memcpy(values, &raw, Bytes);
#pragma unroll
    for (int i = 0; i < kCount; ++i) lane[i] = static_cast<Acc>(values[i]);
  }
  template <class Raw>
  __device__ void combine(const Raw& raw) {
    T values[kCount];
    memcpy(values, &raw, Bytes);
#pragma unroll
    for (int i = 0; i < kCount; ++i) lane[i] = Op::combine(lane[i], static_cast<Acc>(values[i]));
  }
  template <class Raw>
  __device__ Raw get(bool mean, int ranks) const {
    T values[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      values[i] = static_cast<T>(mean ? average(lane[i], ranks) : lane[i]);
    Raw raw;
    memcpy(&raw, values, Bytes);
    return raw;
  }
};

}  // namespace vt::collectives::gpu
