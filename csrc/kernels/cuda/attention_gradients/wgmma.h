// Products of a group of four warps on Hopper's tensor cores, 64 rows by 64 or 128 columns by 16:
// the left operand in registers or in shared memory, the right one in shared memory, whose rows are
// 128 bytes long and swizzled as TMA writes them.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "base/half.h"

// Code for wgmma exists on architecture 9.0a only.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define VT_HAS_WGMMA 1
#else
#define VT_HAS_WGMMA 0
#endif

namespace vt::cuda::attention_gradients {

// How a right operand lies: rows of shared memory are its columns, or run along k.
enum class Right : uint8_t { kRowsAreColumns, kRowsAreAlongK };

// Note [Operands in shared memory]
// 64 numbers of 2 bytes are a row of 128 bytes, eight rows an atom of 1024 bytes whose 16-byte
// pieces are swizzled; rows follow each other, the next 64 numbers of every row lie `next_columns`
// bytes further. 16 along such a row are a step of 32 bytes, 16 rows one of 2048.
__device__ __forceinline__ uint64_t operand(uint32_t shared_address, uint32_t next_columns) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  return uint64_t{(shared_address & 0x3ffffu) >> 4} | uint64_t{next_columns >> 4} << 16 |
         uint64_t{1024 >> 4} << 32 | kSwizzle128;
}

// Registers that were written are seen by the products that follow.
__device__ __forceinline__ void begin_products() {
#if VT_HAS_WGMMA
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void end_products() {
#if VT_HAS_WGMMA
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
// Until all but the latest kLeft groups of products are done.
template <int kLeft = 0>
__device__ __forceinline__ void await_products() {
#if VT_HAS_WGMMA
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
#endif
}
// Nothing that reads or writes the sums moves past here: the compiler does not know that the wait
// for products is what makes them.
template <int kCount>
__device__ __forceinline__ void hold(float (&sum)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(sum[i])::"memory");
}

#define VT_8_SUMS(C, i) \
  C(d[i]), C(d[i + 1]), C(d[i + 2]), C(d[i + 3]), C(d[i + 4]), C(d[i + 5]), C(d[i + 6]), C(d[i + 7])
#define VT_SUMS_64(C) VT_8_SUMS(C, 0), VT_8_SUMS(C, 8), VT_8_SUMS(C, 16), VT_8_SUMS(C, 24)
#define VT_SUMS_128(C) \
  VT_SUMS_64(C), VT_8_SUMS(C, 32), VT_8_SUMS(C, 40), VT_8_SUMS(C, 48), VT_8_SUMS(C, 56)
#define VT_NAMES_64                                                        \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define VT_NAMES_128                                                         \
  VT_NAMES_64                                                                \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, " \
  "%46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, "   \
  "%60, %61, %62, %63"

// One instruction: `tie` says whether it reads the sums that it writes, `keep` whether it adds to
// them; `operands` are those behind the sums, by number, and their inputs follow.
#define VT_PRODUCT(columns, type, keep, tie, operands, ...)                            \
  asm volatile("{.reg .pred keep; setp.ne.b32 keep, " #keep                            \
               ", 0;\n"                                                                \
               "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." #type "." #type \
               " {" VT_NAMES_##columns "}, " operands ";}"                             \
               : VT_SUMS_##columns(tie)                                                \
               : __VA_ARGS__)
#define VT_PRODUCTS(columns, operands, ...)                    \
  if constexpr (std::is_same_v<T, BFloat16> && kKeep)          \
    VT_PRODUCT(columns, bf16, 1, "+f", operands, __VA_ARGS__); \
  if constexpr (std::is_same_v<T, BFloat16> && !kKeep)         \
    VT_PRODUCT(columns, bf16, 0, "=f", operands, __VA_ARGS__); \
  if constexpr (!std::is_same_v<T, BFloat16> && kKeep)         \
    VT_PRODUCT(columns, f16, 1, "+f", operands, __VA_ARGS__);  \
  if constexpr (!std::is_same_v<T, BFloat16> && !kKeep)        \
  VT_PRODUCT(columns, f16, 0, "=f", operands, __VA_ARGS__)
#define VT_LEFT "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3])

// d = left * right, plus d if kKeep. The left operand in shared memory, rows along k as on the
// right.
template <class T, bool kKeep>
__device__ __forceinline__ void multiply(float (&d)[32], uint64_t left, uint64_t right) {
#if VT_HAS_WGMMA
  VT_PRODUCTS(64, "%32, %33, keep, 1, 1, 0, 0", "l"(left), "l"(right));
#endif
}
template <class T, bool kKeep>
__device__ __forceinline__ void multiply(float (&d)[64], uint64_t left, uint64_t right) {
#if VT_HAS_WGMMA
  VT_PRODUCTS(128, "%64, %65, keep, 1, 1, 0, 0", "l"(left), "l"(right));
#endif
}
// The left operand in registers.
template <class T, Right kRight, bool kKeep>
__device__ __forceinline__ void multiply(float (&d)[32], const uint32_t (&left)[4],
                                         uint64_t right) {
#if VT_HAS_WGMMA
  constexpr int kTurn = kRight == Right::kRowsAreAlongK;
  VT_PRODUCTS(64, "{%32, %33, %34, %35}, %36, keep, 1, 1, %37", VT_LEFT, "l"(right), "n"(kTurn));
#endif
}
template <class T, Right kRight, bool kKeep>
__device__ __forceinline__ void multiply(float (&d)[64], const uint32_t (&left)[4],
                                         uint64_t right) {
#if VT_HAS_WGMMA
  constexpr int kTurn = kRight == Right::kRowsAreAlongK;
  VT_PRODUCTS(128, "{%64, %65, %66, %67}, %68, keep, 1, 1, %69", VT_LEFT, "l"(right), "n"(kTurn));
#endif
}

#undef VT_LEFT
#undef VT_PRODUCTS
#undef VT_PRODUCT
#undef VT_8_SUMS
#undef VT_SUMS_64
#undef VT_SUMS_128
#undef VT_NAMES_64
#undef VT_NAMES_128

}  // namespace vt::cuda::attention_gradients
