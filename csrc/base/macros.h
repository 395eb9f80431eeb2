// Compiler spellings shared by host and device code. Knows nothing else of the project.
#pragma once

#if defined(__CUDACC__)
#define VT_HD __host__ __device__ __forceinline__
#else
#define VT_HD inline __attribute__((always_inline))
#endif

#define VT_LIKELY(x) __builtin_expect(!!(x), 1)
#define VT_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define VT_NOINLINE __attribute__((noinline))
