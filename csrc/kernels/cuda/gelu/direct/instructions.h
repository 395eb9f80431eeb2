// Instructions of products in clusters of two blocks: 64 rows by 192 columns by 16 on Hopper's
// tensor cores, boxes that come to both blocks at once, barriers of the other block.
#pragma once
#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/attention_gradients/pipeline.h"
#include "kernels/cuda/attention_gradients/wgmma.h"
#include "kernels/cuda/barriers.h"

namespace vt::cuda::direct {

using attention_gradients::begin_products;
using attention_gradients::end_products;
using attention_gradients::give_registers;
using attention_gradients::hold;
using attention_gradients::operand;
using attention_gradients::take_registers;

inline constexpr int kSums = 96;  // of a thread, 64 x 192

#define VT_8_SUMS(i)                                                                          \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])

// d = left * right, plus d if keep is not 0. Rows of the left operand run along k; those of the
// right one do too, or are the columns' (kAlongColumns).
template <bool kAlongColumns>
__device__ __forceinline__ void multiply(float (&d)[kSums], uint64_t left, uint64_t right,
                                         int keep) {
#if VT_HAS_WGMMA
  asm volatile(
      "{.reg .pred keep; setp.ne.b32 keep, %98, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95}, "
      "%96, %97, keep, 1, 1, 0, %99;}"
      : VT_8_SUMS(0), VT_8_SUMS(8), VT_8_SUMS(16), VT_8_SUMS(24), VT_8_SUMS(32), VT_8_SUMS(40),
        VT_8_SUMS(48), VT_8_SUMS(56), VT_8_SUMS(64), VT_8_SUMS(72), VT_8_SUMS(80), VT_8_SUMS(88)
      : "l"(left), "l"(right), "r"(keep), "n"(static_cast<int>(kAlongColumns)));
#endif
}
#undef VT_8_SUMS

// Until at most `kLeft` groups of products are under way.
template <int kLeft>
__device__ __forceinline__ void await_all_but() {
#if VT_HAS_WGMMA
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
#endif
}

__device__ __forceinline__ uint32_t rank_in_cluster() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
// All threads of both blocks meet.
__device__ __forceinline__ void meet_cluster() {
#if VT_HAS_WGMMA
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
#endif
}
// An arrival at the barrier that lies in block `rank` where this one has `barrier`.
__device__ __forceinline__ void arrive_at(uint32_t barrier, uint32_t rank) {
#if VT_HAS_WGMMA
  asm volatile(
      "{.reg .b32 there; mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];}" ::"r"(barrier),
      "r"(rank)
      : "memory");
#endif
}

// A box of rows along k comes to this block.
__device__ __forceinline__ void load_rows(uint32_t to, const CUtensorMap& map, int k, int row,
                                          uint32_t barrier) {
#if VT_HAS_WGMMA
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3}], [%4];" ::"r"(to),
      "l"(&map), "r"(k), "r"(row), "r"(barrier)
      : "memory");
#endif
}
// Boxes of the right operand come to both blocks: of five dimensions where it lies along k, of
// three where it lies along its columns.
__device__ __forceinline__ void load_groups_to_both(uint32_t to, const CUtensorMap& map, int k,
                                                    int group, uint32_t barrier) {
#if VT_HAS_WGMMA
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3, %3, %3, %4}], [%5], %6;" ::"r"(to),
      "l"(&map), "r"(k), "r"(0), "r"(group), "r"(barrier), "h"(static_cast<uint16_t>(3))
      : "memory");
#endif
}
__device__ __forceinline__ void load_columns_to_both(uint32_t to, const CUtensorMap& map, int k,
                                                     int group, uint32_t barrier) {
#if VT_HAS_WGMMA
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(to),
      "l"(&map), "r"(0), "r"(k), "r"(group), "r"(barrier), "h"(static_cast<uint16_t>(3))
      : "memory");
#endif
}

// The two groups of four warps that multiply in turns: one waits for its turn, the other gives it.
__device__ __forceinline__ void await_turn(int group) {
  asm volatile("bar.sync %0, 256;" ::"r"(group + 1) : "memory");
}
__device__ __forceinline__ void give_turn(int group) {
  asm volatile("bar.arrive %0, 256;" ::"r"(group + 1) : "memory");
}

// 16 bytes that are read once, and those that many blocks read.
__device__ __forceinline__ uint4 read_once(const void* from) {
  uint4 x;
  asm volatile("ld.global.L1::no_allocate.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
               : "l"(from)
               : "memory");
  return x;
}
__device__ __forceinline__ uint4 read_often(const void* from) {
  uint4 x;
  asm volatile("ld.global.nc.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
               : "l"(from)
               : "memory");
  return x;
}
__device__ __forceinline__ void write(void* to, const uint4& x) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(x.x), "r"(x.y), "r"(x.z),
               "r"(x.w)
               : "memory");
}

}  // namespace vt::cuda::direct
