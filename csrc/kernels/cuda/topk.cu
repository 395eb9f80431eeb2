// The k first of each row, one block a row. The k-th smallest of the threads' own minima bounds the
// answer from above, so one more look at the row leaves few candidates, which are sorted by value
// and position.
#include <algorithm>
#include <bit>

#include "kernels/cuda/architecture.h"
#include "kernels/cuda/held_row.h"
#include "kernels/cuda/packs.h"
#include "kernels/cuda/topk_ring.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

constexpr int kMostThreads = 1024;
constexpr int kCandidates = 4096;  // a power of two; the largest k is far below it

// Ascending; `count` is a power of two.
template <class K>
__device__ void bitonic_sort(K* items, int count) {
  for (int width = 2; width <= count; width *= 2)
    for (int step = width / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const int other = i ^ step;
        if (other <= i) continue;
        const K a = items[i], b = items[other];
        if ((a > b) == ((i & width) == 0)) {
          items[i] = b;
          items[other] = a;
        }
      }
    }
  __syncthreads();
}

template <class T, int V>
__global__ void __launch_bounds__(kMostThreads)
    topk_kernel(T* values, int64_t* indices, const T* x, int64_t n, int k, bool largest) {
  await_earlier();
  __shared__ Item items[kCandidates];
  __shared__ int shared[kMostThreads / kWarp], counter;
  auto* minima = reinterpret_cast<uint32_t*>(items);
  const KeyRow<T, V> row{x + blockIdx.x * n, n, largest};
  const Team team = whole_block();

  uint32_t least = 0xffffffffu;
  row.each(team, [&](uint32_t key, uint32_t) { least = min(least, key); });
  minima[threadIdx.x] = least;
  bitonic_sort(minima, static_cast<int>(blockDim.x));
  const uint32_t bound = k <= static_cast<int>(blockDim.x) ? minima[k - 1] : 0xffffffffu;
  __syncthreads();
  if (threadIdx.x == 0) counter = 0;
  __syncthreads();
  row.each(team, [&](uint32_t key, uint32_t position) {
    if (key > bound) return;
    const int at = atomicAdd(&counter, 1);
    if (at < kCandidates) items[at] = item_of(key, position);
  });
  __syncthreads();
  int count = counter;
  __syncthreads();
  if (count > kCandidates) {
    take_exactly(team, row, items, k, SortKey<T>::kBits, shared, &counter);
    count = k;
  }
  int padded = 1;
  while (padded < count) padded *= 2;
  for (int i = count + static_cast<int>(threadIdx.x); i < padded; i += static_cast<int>(blockDim.x))
    items[i] = ~Item{0};
  bitonic_sort(items, padded);
  for (int i = static_cast<int>(threadIdx.x); i < k; i += static_cast<int>(blockDim.x)) {
    const auto position = static_cast<uint32_t>(items[i]);
    values[blockIdx.x * int64_t{k} + i] = row.data[position];
    indices[blockIdx.x * int64_t{k} + i] = position;
  }
}

// Of floats of 16 and 32 bits; k is at most kHeldMost.
template <class T, int kPacks>
__global__ void __launch_bounds__(kHeldThreads, 2)
    topk_held_kernel(T* values, int64_t* indices, const T* x, int64_t n, int k) {
  await_earlier();
  using Key = SortKey<T>;
  using Row = RegisterRow<T, kHeldThreads, kPacks>;
  __shared__ Item items[kHeldCandidates];
  __shared__ uint32_t maxima[kHeldGroups];
  __shared__ float bound;
  __shared__ int shared[kHeldThreads / kWarp], counter;
  x += blockIdx.x * n;
  values += blockIdx.x * int64_t{k};
  indices += blockIdx.x * int64_t{k};
  const int thread = static_cast<int>(threadIdx.x);
  const KeyRow<T, Row::V> keys{x, n, true};
  Row row;
  row.load(x, n, thread);

  Largest<T, float> largest;
  row.each(n, thread, [&](int, const auto& pack, int) { largest.see(pack); });
  const float most = warp_reduce<kHeldThreads / kHeldGroups>(largest.value(), LargerOp{});
  if (thread % (kHeldThreads / kHeldGroups) == 0)
    maxima[thread / (kHeldThreads / kHeldGroups)] = keys.key(convert<T>(most));
  if (thread == 0) counter = 0;
  __syncthreads();
  if (thread < kWarp) {
    const uint32_t kth = ~kth_of_groups<Key::kBits>(maxima, k, thread) & Key::kMask;
    if (thread == 0) bound = Key::number(kth);
  }
  __syncthreads();
  const float least = bound;
  row.keep_packed();
  row.each(n, thread, [&](int i, const auto& pack, int) {
    const Pack<float, Row::V> wide = widen<float>(pack);
    bool any = false;
#pragma unroll
    for (const float value : wide.v) any |= !(value < least);
    if (!any) return;
#pragma unroll
    for (int j = 0; j < Row::V; ++j)
      if (!(wide.v[j] < least)) {
        const int at = atomicAdd(&counter, 1);
        if (at < kHeldCandidates)
          items[at] = item_of(keys.key(pack.v[j]), static_cast<uint32_t>(i + j));
      }
  });
  __syncthreads();
  int count = counter;
  __syncthreads();
  if (count > kHeldCandidates) {
    take_exactly(whole_block(), keys, items, k, Key::kBits, shared, &counter);
    count = k;
  }
  if (thread >= count) return;
  const Item own = items[thread];
  const int place = place_among(items, count, own);
  if (place >= k) return;
  const auto position = static_cast<uint32_t>(own);
  values[place] = x[position];
  indices[place] = position;
}

// False: these rows are not for that kernel. There are packs for all threads of a held row.
template <class T>
bool launch_ring(const Queue& queue, const Tensor& values, const Tensor& indices, const Tensor& x) {
  const int64_t rows = x.sizes()[0], n = x.sizes()[1], bytes = n * static_cast<int64_t>(sizeof(T));
  if (!has_wgmma(queue.index()) || bytes > TurnsOfRows::kMostBytes) return false;
  const auto shared = static_cast<size_t>(bytes) * TurnsOfRows::kTeams;
  auto* kernel = &topk_ring_kernel<T>;
  queue.allow_shared(reinterpret_cast<const void*>(kernel), shared);
  queue.launch_shared<Start::kEarly>(kernel, std::min<int64_t>(rows, queue.multiprocessors()),
                                     TurnsOfRows::kBlock, shared, values.data<T>(),
                                     indices.data<int64_t>(), x.data<T>(), rows,
                                     static_cast<int>(n), static_cast<int>(values.sizes()[1]));
  return true;
}

// False: these rows are not for that kernel.
template <class T>
bool launch_held(const Queue& queue, const Tensor& values, const Tensor& indices, const Tensor& x,
                 bool largest) {
  if constexpr (is_float(DTypeOf<T>::value) && sizeof(T) <= 4) {
    const int64_t rows = x.sizes()[0], n = x.sizes()[1], k = values.sizes()[1];
    const int64_t packs = n * static_cast<int64_t>(sizeof(T)) / 16;
    if (!largest || k > kHeldMost || packs < kHeldThreads || !rows_are_packed<T>(n, {&x}))
      return false;
    if constexpr (sizeof(T) == 2)
      if (launch_ring<T>(queue, values, indices, x)) return true;
    return choose_row_shape<RowShape<kHeldThreads, 2>, RowShape<kHeldThreads, 4>,
                            RowShape<kHeldThreads, 8>>(packs, [&]<class Shape>(Shape) {
      queue.launch_early(&topk_held_kernel<T, Shape::packs>, static_cast<unsigned>(rows),
                         kHeldThreads, values.data<T>(), indices.data<int64_t>(), x.data<T>(), n,
                         static_cast<int>(k));
    });
  }
  return false;
}

template <class T>
void launch(const Queue& queue, const Tensor& values, const Tensor& indices, const Tensor& x,
            bool largest) {
  constexpr int kWide = 16 / sizeof(T);
  const int64_t rows = x.sizes()[0], n = x.sizes()[1];
  const bool wide = n % kWide == 0 && is_aligned(x.data(), 16);
  // Some packs for each thread, but whole warps.
  const auto wanted = std::bit_ceil(static_cast<uint64_t>(ceil_div(n, wide ? 2 * kWide : 8)));
  const auto threads = static_cast<unsigned>(std::clamp<uint64_t>(wanted, kWarp, kMostThreads));
  queue.launch_early(wide ? &topk_kernel<T, kWide> : &topk_kernel<T, 1>,
                     static_cast<unsigned>(rows), threads, values.data<T>(),
                     indices.data<int64_t>(), x.data<T>(), n, static_cast<int>(values.sizes()[1]),
                     largest);
}

}  // namespace

void topk(const Tensor& values, const Tensor& indices, const Tensor& x, bool largest) {
  const int64_t rows = x.sizes()[0], n = x.sizes()[1], k = values.sizes()[1];
  const Queue queue("topk", x.device());
  const auto whole = [&] {  // keys of 64 bits, or positions that need them
    const Tensor all = empty(x.sizes(), x.dtype(), x.device());
    const Tensor places = empty(x.sizes(), DType::kI64, x.device());
    sort(all, places, x, largest);
    copy(values, view_of(all, Dims{rows, k}, Dims{n, 1}, 0));
    copy(indices, view_of(places, Dims{rows, k}, Dims{n, 1}, 0));
  };
  if (n > 0x7fffffff || rows > 0x7fffffff) return whole();
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    if constexpr (sizeof(T) == 8) whole();
    else if (!launch_held<T>(queue, values, indices, x, largest))
      launch<T>(queue, values, indices, x, largest);
  });
}

}  // namespace vt::cuda
