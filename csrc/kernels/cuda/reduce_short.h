// Reductions of little data, where starting a kernel and the way to memory and back are most of the
// time: everything is asked for at once, and one kernel does it all.
#pragma once
#include "kernels/cuda/packs.h"
#include "kernels/cuda/reduce_ops.h"

namespace vt::cuda {

// The elements of a pack as what they are for the reduction.
template <class Op, class T, int V>
__device__ __forceinline__ Pack<typename Op::Acc, V> mapped(const Op& op, Pack<T, V> pack) {
  Pack<typename Op::Acc, V> result;
  if constexpr (Op::kWidens) {
    result = widen<typename Op::Acc>(pack);
#pragma unroll
    for (auto& value : result.v) value = op.adjust(value);
  } else {
#pragma unroll
    for (int j = 0; j < V; ++j) result.v[j] = op.map(pack.v[j]);
  }
  return result;
}

// Rows of up to 32 * kPacks packs, a warp each.
template <class T, class Op, int kPacks>
__global__ void __launch_bounds__(kThreads)
    reduce_short_rows_kernel(typename Op::Out* out, const T* x, Op op, int rows, int packs,
                             int64_t stride) {
  await_earlier();
  constexpr int V = 16 / sizeof(T);
  using Acc = typename Op::Acc;
  const int row = static_cast<int>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
  if (row >= rows) return;
  const int lane = threadIdx.x % kWarp;
  const auto* from = reinterpret_cast<const Pack<T, V>*>(x + row * stride);
  Pack<T, V> own[kPacks];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {  // past the end the first pack again, which is not used
    const int at = p * kWarp + lane;
    own[p] = from[at < packs ? at : 0];
  }
  Acc result = op.identity();
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const auto values = mapped(op, own[p]);
    Acc sum = values.v[0];
#pragma unroll
    for (int j = 1; j < V; ++j) sum = op(sum, values.v[j]);
    if (p * kWarp + lane < packs) result = op(result, sum);
  }
  result = warp_reduce(result, op);
  if (lane == 0) out[row] = op.finish(result);
}

// Note [Columns by clusters]
// A cluster of kClusterBlocks blocks reduces kLanes packs of neighbouring columns over all rows:
// each block an equal stretch of the rows, whose results then meet in the first one's shared
// memory.
inline constexpr int kClusterBlocks = 8, kClusterThreads = 512;

template <class T, class Op, int kLanes>
__global__ void __launch_bounds__(kClusterThreads, 2)
    reduce_columns_cluster_kernel(typename Op::Out* out, const T* x, Op op, int rows, int outputs,
                                  int64_t stride) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  await_earlier();
  using Acc = typename Op::Acc;
  constexpr int V = 16 / sizeof(T), kRows = kClusterThreads / kLanes, kTogether = 8;
  constexpr int kWarps = kClusterThreads / kWarp, kColumns = kLanes * V;
  __shared__ alignas(16) char
      storage[(kWarps > kClusterBlocks ? kWarps : kClusterBlocks) * kColumns * sizeof(Acc)];
  __shared__ alignas(16) char meeting[kClusterBlocks * kColumns * sizeof(Acc)];
  Acc(*parts)[kColumns] = reinterpret_cast<Acc(*)[kColumns]>(storage);
  Acc(*results)[kColumns] = reinterpret_cast<Acc(*)[kColumns]>(meeting);
  const int rank = static_cast<int>(blockIdx.x % kClusterBlocks);
  const int first_column = static_cast<int>(blockIdx.x / kClusterBlocks) * kColumns;
  const int column = first_column + static_cast<int>(threadIdx.x) % kLanes * V;
  const int each = (rows + kClusterBlocks - 1) / kClusterBlocks;
  const int begin = rank * each, end = begin + each < rows ? begin + each : rows;
  // Every block of the cluster runs before another writes to it.
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
  Acc sums[V];
#pragma unroll
  for (Acc& sum : sums) sum = op.identity();
  x += column;
  if (column < outputs) {
    for (int first = begin + static_cast<int>(threadIdx.x) / kLanes; first < end;
         first += kTogether * kRows) {
      Pack<T, V> packs[kTogether];
#pragma unroll
      for (int u = 0; u < kTogether; ++u) {  // past the end the first one again
        const int row = first + u * kRows;
        packs[u] = *reinterpret_cast<const Pack<T, V>*>(x + (row < end ? row : first) * stride);
      }
#pragma unroll
      for (int u = 0; u < kTogether; ++u) {
        const auto values = mapped(op, packs[u]);
        if (first + u * kRows < end) {
#pragma unroll
          for (int j = 0; j < V; ++j) sums[j] = op(sums[j], values.v[j]);
        }
      }
    }
  }
#pragma unroll
  for (int mask = kLanes; mask < kWarp; mask *= 2)
#pragma unroll
    for (Acc& sum : sums) sum = op(sum, shuffle_xor(sum, mask));
  if (threadIdx.x % kWarp < kLanes) {
#pragma unroll
    for (int j = 0; j < V; ++j) parts[threadIdx.x / kWarp][threadIdx.x % kLanes * V + j] = sums[j];
  }
  __syncthreads();
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
  if (threadIdx.x < kColumns) {
    Acc sum = parts[0][threadIdx.x];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) sum = op(sum, parts[w][threadIdx.x]);
    // To the first block.
    const auto own = static_cast<unsigned>(__cvta_generic_to_shared(&results[rank][threadIdx.x]));
    unsigned there;
    asm("mapa.shared::cluster.u32 %0, %1, 0;" : "=r"(there) : "r"(own));
    if constexpr (sizeof(Acc) == 8) {
      uint64_t bits;
      memcpy(&bits, &sum, 8);
      asm volatile("st.shared::cluster.u64 [%0], %1;" ::"r"(there), "l"(bits) : "memory");
    } else {
      static_assert(sizeof(Acc) <= 4);
      uint32_t bits = 0;
      memcpy(&bits, &sum, sizeof(Acc));
      if constexpr (sizeof(Acc) == 4)
        asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(there), "r"(bits) : "memory");
      else if constexpr (sizeof(Acc) == 2)
        asm volatile("st.shared::cluster.u16 [%0], %1;" ::"r"(there), "h"(uint16_t(bits))
                     : "memory");
      else asm volatile("st.shared::cluster.u8 [%0], %1;" ::"r"(there), "r"(bits) : "memory");
    }
  }
  asm volatile("barrier.cluster.arrive.release.aligned;\n barrier.cluster.wait.acquire.aligned;" ::
                   : "memory");
  const int output = first_column + static_cast<int>(threadIdx.x);
  if (rank != 0 || threadIdx.x >= kColumns || output >= outputs) return;
  Acc sum = results[0][threadIdx.x];
#pragma unroll
  for (int r = 1; r < kClusterBlocks; ++r) sum = op(sum, results[r][threadIdx.x]);
  out[output] = op.finish(sum);
#endif
}

}  // namespace vt::cuda
