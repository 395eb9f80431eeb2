// Sorting rows, and the positions of nonzero elements.
#include <bit>

#include "kernels/cuda/radix_sort.h"
#include "kernels/cuda/sort_key.h"
#include "kernels/cuda/sort_rows.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

constexpr int kEach = 4;  // elements a thread

// f(number, which of the thread's) for this thread's elements of those below `count`; neighbours
// are of different threads. What is loaded by one call and stored by a later one is on its way for
// all elements at once.
template <class F>
__device__ __forceinline__ void each_below(int64_t block, int64_t count, F&& f) {
  const int64_t first = block * (kThreads * kEach) + threadIdx.x;
#pragma unroll
  for (int u = 0; u < kEach; ++u)
    if (const int64_t i = first + u * kThreads; i < count) f(i, u);
}

// The keys of the elements and, unless `positions` is null, their numbers.
template <class T>
__global__ void __launch_bounds__(kThreads)
    make_keys_kernel(typename SortKey<T>::Key* keys, uint32_t* positions, const T* x, int64_t count,
                     bool descending) {
  T own[kEach];
  each_below(blockIdx.x, count, [&](int64_t i, int u) { own[u] = x[i]; });
  each_below(blockIdx.x, count, [&](int64_t i, int u) {
    const auto key = SortKey<T>::of(own[u]);
    keys[i] = descending ? ~key & SortKey<T>::kMask : key;
    if (positions) positions[i] = static_cast<uint32_t>(i);
  });
}

template <class K>
__global__ void __launch_bounds__(kThreads)
    make_row_keys_kernel(K* keys, const uint32_t* positions, int64_t count, uint32_t n) {
  uint32_t from[kEach];
  each_below(blockIdx.x, count, [&](int64_t i, int u) { from[u] = positions[i]; });
  each_below(blockIdx.x, count, [&](int64_t i, int u) { keys[i] = from[u] / n; });
}

// One sorted row. Most values are what their keys say; the others are fetched.
template <class T>
__global__ void __launch_bounds__(kThreads)
    take_sorted_kernel(T* values, int64_t* indices, const T* x,
                       const typename SortKey<T>::Key* keys, const uint32_t* positions,
                       int64_t count, bool descending) {
  using Key = SortKey<T>;
  typename Key::Key own[kEach];
  uint32_t from[kEach];
  each_below(blockIdx.x, count, [&](int64_t i, int u) {
    own[u] = keys[i];
    from[u] = positions[i];
  });
  each_below(blockIdx.x, count, [&](int64_t i, int u) {
    const auto key = descending ? ~own[u] & Key::kMask : own[u];
    values[i] = Key::is_exact(key) ? Key::value(key) : x[from[u]];
    indices[i] = from[u];
  });
}

// Sorted rows of n elements, `blocks` blocks each.
template <class T>
__global__ void __launch_bounds__(kThreads)
    take_sorted_rows_kernel(T* values, int64_t* indices, const T* x, const uint32_t* positions,
                            int64_t n, uint32_t blocks) {
  const uint32_t row = blockIdx.x / blocks;
  const int64_t begin = row * n;
  const uint32_t block = blockIdx.x - row * blocks;
  uint32_t from[kEach];
  T own[kEach];
  each_below(block, n, [&](int64_t i, int u) { from[u] = positions[begin + i]; });
  each_below(block, n, [&](int64_t, int u) { own[u] = x[from[u]]; });
  each_below(block, n, [&](int64_t i, int u) {
    values[begin + i] = own[u];
    indices[begin + i] = from[u] - begin;
  });
}

constexpr int kNonzeroTile = 1024;

// kWrite false: counts[tile] = how many are nonzero. true: their positions, from starts[tile] on,
// in order.
template <class T, bool kWrite>
__global__ void __launch_bounds__(kNonzeroTile)
    nonzero_kernel(uint32_t* counts, const uint32_t* starts, int64_t* positions, const T* x,
                   int64_t numel) {
  __shared__ uint32_t warps[kNonzeroTile / kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t i = int64_t{blockIdx.x} * kNonzeroTile + threadIdx.x;
  const bool hit = i < numel && convert<bool>(x[i]);
  const unsigned hits = __ballot_sync(0xffffffffu, hit);
  if (lane == 0) warps[warp] = __popc(hits);
  __syncthreads();
  uint32_t before = 0;
  const int limit = kWrite ? warp : kNonzeroTile / kWarp;
  for (int w = 0; w < limit; ++w) before += warps[w];
  if constexpr (kWrite) {
    if (hit) positions[starts[blockIdx.x] + before + __popc(hits & ((1u << lane) - 1))] = i;
  } else {
    if (threadIdx.x == 0) counts[blockIdx.x] = before;
  }
}

}  // namespace

void sort(const Tensor& values, const Tensor& indices, const Tensor& x, bool descending) {
  const int64_t rows = x.sizes()[0], n = x.sizes()[1], count = rows * n;
  if (count == 0) return;
  const Queue queue("sort", x.device());
  if (rows > 1 && sort_short_rows(queue, values, indices, x, descending)) return;
  const int64_t blocks = ceil_div(count, kThreads * kEach);
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    using Key = typename SortKey<T>::Key;
    RadixSort<Key> sorter(queue, count);
    const bool numbered = sorter.wants_numbers();
    queue.launch(&make_keys_kernel<T>, blocks, kThreads, sorter.keys(),
                 numbered ? sorter.positions() : nullptr, x.data<T>(), count, descending);
    sorter.sort(SortKey<T>::kBits, numbered);
    if (rows == 1) {
      queue.launch(&take_sorted_kernel<T>, blocks, kThreads, values.data<T>(),
                   indices.data<int64_t>(), x.data<T>(), sorter.keys(), sorter.positions(), count,
                   descending);
      return;
    }
    // All rows at once: a second stable sort brings each row together again.
    queue.launch(&make_row_keys_kernel<Key>, blocks, kThreads, sorter.keys(), sorter.positions(),
                 count, static_cast<uint32_t>(n));
    sorter.sort(std::bit_width(static_cast<uint64_t>(rows - 1)), true);
    const int64_t each = ceil_div(n, kThreads * kEach);
    queue.launch(&take_sorted_rows_kernel<T>, rows * each, kThreads, values.data<T>(),
                 indices.data<int64_t>(), x.data<T>(), sorter.positions(), n,
                 static_cast<uint32_t>(each));
  });
}

void nonzero(const Tensor& positions, const Tensor& x, int64_t* count) {
  *count = 0;
  const int64_t numel = x.numel();
  if (numel == 0) return;
  const Queue queue("nonzero", x.device());
  const int64_t tiles = ceil_div(numel, kNonzeroTile);
  VT_CHECK(numel < (int64_t{1} << 32), kRuntime, "nonzero: ", numel,
           " elements are more than 2^32");
  const Scratch<uint32_t> starts(queue, tiles + 1);
  uint32_t found = 0;
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    queue.launch(&nonzero_kernel<T, false>, tiles, kNonzeroTile, starts.get(), starts.get(),
                 nullptr, x.data<T>(), numel);
    exclusive_scan(queue, starts.get(), starts.get(), tiles);
    queue.launch(&nonzero_kernel<T, true>, tiles, kNonzeroTile, starts.get(), starts.get(),
                 positions.data<int64_t>(), x.data<T>(), numel);
  });
  VT_CUDA(cudaMemcpyAsync(&found, starts.get() + tiles, sizeof found, cudaMemcpyDeviceToHost,
                          queue.stream()));
  VT_CUDA(cudaStreamSynchronize(queue.stream()));
  *count = found;
}

}  // namespace vt::cuda
