// The instructions of Hopper's tensor cores that work for a group of four warps while those go on:
// 64 x 128 products with the left operand in registers and the right one in shared memory.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

// Code for wgmma exists on architecture 9.0a only.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define VT_HAS_WGMMA 1
#else
#define VT_HAS_WGMMA 0
#endif

namespace vt::cuda::split {

// Note [Right operands]: 16 along k and 128 columns as bfloat16. Eight along k of a column are 16
// bytes, columns follow each other, then come the other eight along k. To the hardware these are
// core matrices of 8 x 16 bytes, 128 bytes apart over columns and 2048 along k, not swizzled.
inline constexpr int kHalfBytes = 128 * 16;
inline constexpr int kRightBytes = 2 * kHalfBytes;

// What tells the hardware where a right operand is and how it lies.
__device__ __forceinline__ uint64_t right_operand(uint32_t shared_address) {
  return uint64_t{(shared_address & 0x3ffffu) >> 4} | uint64_t{kHalfBytes >> 4} << 16 |
         uint64_t{128 >> 4} << 32;
}

// Registers that were written, and operands in shared memory, are seen by the products that follow.
__device__ __forceinline__ void begin_products() {
#if VT_HAS_WGMMA
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void publish_operands() {
#if VT_HAS_WGMMA
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
__device__ __forceinline__ void end_products() {
#if VT_HAS_WGMMA
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void await_products() {
#if VT_HAS_WGMMA
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#endif
}

// Nothing that reads or writes the sums moves past here: the compiler does not know that the wait
// for products is what makes them.
__device__ __forceinline__ void hold(float (&sum)[64]) {
#pragma unroll
  for (int i = 0; i < 64; ++i) asm volatile("" : "+f"(sum[i])::"memory");
}

// d = left * right, plus d unless `fresh`. Element 4j + i of d belongs to columns 8j to 8j + 7, in
// the places of an m16n8 result.
__device__ __forceinline__ void multiply_group(float (&d)[64], const uint32_t (&left)[4],
                                               uint64_t right, bool fresh) {
#if VT_HAS_WGMMA
  asm volatile(
      "{.reg .pred keep; setp.ne.b32 keep, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, "
      "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, "
      "%34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, "
      "%50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
      "}, {%64, %65, %66, %67}, %68, keep, 1, 1, 0;}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
        "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
        "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]),
        "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]),
        "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]),
        "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]),
        "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),
        "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
        "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]),
        "+f"(d[63])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right), "r"(fresh ? 0 : 1));
#endif
}

}  // namespace vt::cuda::split
