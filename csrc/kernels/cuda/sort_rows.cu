// Rows that fit a block: each is read once, sorted, written once. Short ones are sorted in a warp's
// registers, others by radix sorts in shared memory, CUB's or our own.
#include "kernels/cuda/sort_rows.h"

#include <cub/block/block_load.cuh>
#include <cub/block/block_radix_sort.cuh>

#include "kernels/cuda/block_sort.h"
#include "kernels/cuda/sort_key.h"
#include "kernels/cuda/warp_sort.h"

namespace vt::cuda {
namespace {

// At least the bytes of shared memory that these kernels declare themselves.
constexpr size_t kDeclared = 2048;

template <class T, int kBlock, int kItems>
__global__ void __launch_bounds__(kBlock)
    sort_rows_kernel(T* values, int64_t* indices, const T* x, int n, bool descending) {
  await_earlier();
  using Key = typename SortKey<T>::Key;
  using Load = cub::BlockLoad<T, kBlock, kItems, cub::BLOCK_LOAD_WARP_TRANSPOSE>;
  using Sort = cub::BlockRadixSort<Key, kBlock, kItems, uint16_t>;
  __shared__ union {
    typename Load::TempStorage load;
    typename Sort::TempStorage sort;
  } shared;
  const int64_t row = int64_t{blockIdx.x} * n;
  T items[kItems];
  Load(shared.load).Load(x + row, items, n);
  Key keys[kItems];
  uint16_t positions[kItems];
#pragma unroll
  for (int k = 0; k < kItems; ++k) {
    const int position = threadIdx.x * kItems + k;
    const Key key = SortKey<T>::of(items[k]);
    // What is past the row comes last: equal keys keep their order.
    keys[k] = position >= n ? SortKey<T>::kMask : descending ? ~key & SortKey<T>::kMask : key;
    positions[k] = static_cast<uint16_t>(position);
  }
  __syncthreads();
  Sort(shared.sort).SortBlockedToStriped(keys, positions, 0, SortKey<T>::kBits);
#pragma unroll
  for (int k = 0; k < kItems; ++k) {
    const int to = k * kBlock + static_cast<int>(threadIdx.x);
    if (to >= n) continue;
    values[row + to] = x[row + positions[k]];
    indices[row + to] = positions[k];
  }
}

}  // namespace

bool sort_short_rows(const Queue& queue, const Tensor& values, const Tensor& indices,
                     const Tensor& x, bool descending) {
  const int64_t rows = x.sizes()[0], n = x.sizes()[1];
  return visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    auto launch = [&](auto kernel, dim3 grid, int block, size_t shared, auto... counts) {
      if (shared > (40 << 10)) {
        if (static_cast<int64_t>(shared + kDeclared) > queue.shared_limit()) return false;
        queue.allow_shared(reinterpret_cast<const void*>(kernel), shared);
      }
      queue.launch_shared<Start::kEarly>(kernel, grid, block, shared, values.data<T>(),
                                         indices.data<int64_t>(), x.data<T>(), counts...,
                                         static_cast<int>(n), descending);
      return true;
    };
    if constexpr (sizeof(T) <= 4) {
      auto in_warps = [&]<int kItems>(std::integral_constant<int, kItems>) {
        constexpr int kBlock = 4 * kWarp;
        return launch(&sort_warp_rows_kernel<T, kItems, kBlock>, ceil_div(rows, kBlock / kWarp),
                      kBlock, 0, rows);
      };
      if (n <= 64) return in_warps(std::integral_constant<int, 2>{});
      if (n <= 128) return in_warps(std::integral_constant<int, 4>{});
      if (n <= 256) return in_warps(std::integral_constant<int, 8>{});
      if (n <= 512) return in_warps(std::integral_constant<int, 16>{});
      auto in_block = [&]<int kBlock, int kItems>(std::integer_sequence<int, kBlock, kItems>) {
        return launch(&sort_block_rows_kernel<T, kBlock, kItems>, rows, kBlock,
                      BlockSort<kBlock, kItems>::kShared);
      };
      if (n > 16384 && n <= 32768) return in_block(std::integer_sequence<int, 1024, 32>{});
      if (n > 8192 && n <= 16384) return in_block(std::integer_sequence<int, 1024, 16>{});
      if (n > 4096 && n <= 8192) return in_block(std::integer_sequence<int, 512, 16>{});
      if (sizeof(T) == 4 && n <= 1024) return in_block(std::integer_sequence<int, 128, 8>{});
    }
    if (n <= 256) return launch(&sort_rows_kernel<T, 64, 4>, rows, 64, 0);
    if (n <= 1024) return launch(&sort_rows_kernel<T, 128, 8>, rows, 128, 0);
    if (n <= 4096) return launch(&sort_rows_kernel<T, 512, 8>, rows, 512, 0);
    return false;
  });
}

}  // namespace vt::cuda
