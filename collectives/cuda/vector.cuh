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
