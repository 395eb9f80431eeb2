// What the second-level cache is told about memory that is read or written once.
#pragma once
#include "kernels/cuda/launch.h"

namespace vt::cuda {

// What is larger than the cache passes through it, and should not push out what is wanted again.
class CachePolicy {
 public:
  __device__ __forceinline__ explicit CachePolicy(bool passing) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    if (passing) asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy_));
    else asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy_));
#endif
  }
  // 16 bytes.
  template <class P>
  __device__ __forceinline__ P load(const P* from) const {
    static_assert(sizeof(P) == 16);
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    uint4 words;
    // Volatile, so that it stays behind await_earlier().
    asm volatile("ld.global.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
                 : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                 : "l"(from), "l"(policy_));
    P pack;
    memcpy(&pack, &words, 16);
    return pack;
#else
    return *from;
#endif
  }
  template <class P>
  __device__ __forceinline__ void store(P* to, const P& pack) const {
    static_assert(sizeof(P) == 16);
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    uint4 words;
    memcpy(&words, &pack, 16);
    asm volatile("st.global.L2::cache_hint.v4.u32 [%0], {%1, %2, %3, %4}, %5;" ::"l"(to),
                 "r"(words.x), "r"(words.y), "r"(words.z), "r"(words.w), "l"(policy_)
                 : "memory");
#else
    *to = pack;
#endif
  }

 private:
  uint64_t policy_ = 0;
};

}  // namespace vt::cuda
