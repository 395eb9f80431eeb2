// The k first of each row, one block a row. The k-th smallest of the threads' own minima bounds the
// answer from above, so one more look at the row leaves few candidates, which are sorted by value
// and position.
#include <algorithm>
#include <bit>

#include "kernels/cuda/held_row.h"
#include "kernels/cuda/packs.h"
#include "kernels/cuda/sort_key.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

constexpr int kMostThreads = 1024;
constexpr int kCandidates = 4096;  // a power of two; the largest k is far below it

// A key with its position; smaller is earlier in the result.
using Item = unsigned long long;

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

// One row of keys, so ordered that the wanted ones are the smallest.
template <class T, int V>
struct KeyRow {
  const T* data;
  int64_t n;
  bool largest;

  __device__ uint32_t key(T value) const {
    const uint32_t key = SortKey<T>::of(value);
    return largest ? ~key & SortKey<T>::kMask : key;
  }
  // f(key, position) for every element, V neighbours at a time; each thread sees its own in order.
  template <class F>
  __device__ void each(F&& f) const {
    for (int64_t i = int64_t{threadIdx.x} * V; i < n; i += int64_t{blockDim.x} * V) {
      const auto pack = *reinterpret_cast<const Pack<T, V>*>(data + i);
#pragma unroll
      for (int v = 0; v < V; ++v) f(key(pack.v[v]), static_cast<uint32_t>(i + v));
    }
  }
};

__device__ Item item_of(uint32_t key, uint32_t position) { return Item{key} << 32 | position; }

// The sum over the block, for every thread. `shared` holds a number a warp.
__device__ int sum_of_block(int value, int* shared) {
  value = __reduce_add_sync(0xffffffffu, value);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = value;
  __syncthreads();
  int sum = 0;
  for (unsigned w = 0; w < blockDim.x / kWarp; ++w) sum += shared[w];
  return sum;
}

// For rows with too many candidates, such as of many equal values: the k-th smallest key bit by
// bit, then all smaller ones and the first that are equal to it.
template <class Row>
__device__ void take_exactly(const Row& row, Item* items, int k, int bits, int* shared,
                             int* counter) {
  uint32_t bound = 0;  // the largest key with fewer than k smaller ones
  int smaller = 0;
  for (int bit = bits - 1; bit >= 0; --bit) {
    const uint32_t trial = bound | uint32_t{1} << bit;
    int count = 0;
    row.each([&](uint32_t key, uint32_t) { count += key < trial; });
    const int below = sum_of_block(count, shared);
    if (below < k) {
      bound = trial;
      smaller = below;
    }
  }
  if (threadIdx.x == 0) *counter = 0;
  __syncthreads();
  row.each([&](uint32_t key, uint32_t position) {
    if (key < bound) items[atomicAdd(counter, 1)] = item_of(key, position);
  });
  // The equal ones in the order of their positions.
  int taken = smaller;
  for (int64_t start = 0; start < row.n && taken < k; start += blockDim.x) {
    const int64_t i = start + threadIdx.x;
    const bool equal = i < row.n && row.key(row.data[i]) == bound;
    const unsigned lanes = __ballot_sync(0xffffffffu, equal);
    const unsigned warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    __syncthreads();
    if (lane == 0) shared[warp] = __popc(lanes);
    __syncthreads();
    int before = taken + __popc(lanes & ((1u << lane) - 1)), all = 0;
    for (unsigned w = 0; w < blockDim.x / kWarp; ++w) {
      if (w < warp) before += shared[w];
      all += shared[w];
    }
    if (equal && before < k) items[before] = item_of(bound, static_cast<uint32_t>(i));
    taken += all;
  }
  __syncthreads();
}

template <class T, int V>
__global__ void __launch_bounds__(kMostThreads)
    topk_kernel(T* values, int64_t* indices, const T* x, int64_t n, int k, bool largest) {
  __shared__ Item items[kCandidates];
  __shared__ int shared[kMostThreads / kWarp], counter;
  auto* minima = reinterpret_cast<uint32_t*>(items);
  const KeyRow<T, V> row{x + blockIdx.x * n, n, largest};

  uint32_t least = 0xffffffffu;
  row.each([&](uint32_t key, uint32_t) { least = min(least, key); });
  minima[threadIdx.x] = least;
  bitonic_sort(minima, static_cast<int>(blockDim.x));
  const uint32_t bound = k <= static_cast<int>(blockDim.x) ? minima[k - 1] : 0xffffffffu;
  __syncthreads();
  if (threadIdx.x == 0) counter = 0;
  __syncthreads();
  row.each([&](uint32_t key, uint32_t position) {
    if (key > bound) return;
    const int at = atomicAdd(&counter, 1);
    if (at < kCandidates) items[at] = item_of(key, position);
  });
  __syncthreads();
  int count = counter;
  __syncthreads();
  if (count > kCandidates) {
    take_exactly(row, items, k, SortKey<T>::kBits, shared, &counter);
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

// Note [The first of a held row]
// A row lies in the registers of a block. The k-th largest of the maxima of 128 groups of threads
// has k elements at least that are not below it, and few more than k: these are collected, and each
// counts those that come before it. NaNs are the first of all: the maxima pass them over, and none
// of them is below anything.
constexpr int kHeldThreads = 512, kHeldGroups = 128, kHeldMost = 64;
constexpr int kHeldCandidates = kHeldThreads;

// The k-th smallest of 128 keys of kBits bits, by one warp: bit by bit.
template <int kBits>
__device__ __forceinline__ uint32_t kth_of_groups(const uint32_t* keys, int k) {
  constexpr int kOwn = kHeldGroups / kWarp;
  uint32_t own[kOwn], found = 0;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) own[i] = keys[i * kWarp + threadIdx.x % kWarp];
#pragma unroll
  for (int bit = kBits - 1; bit >= 0; --bit) {
    const uint32_t trial = found | uint32_t{1} << bit;
    int below = 0;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) below += own[i] < trial;
    if (__reduce_add_sync(0xffffffffu, below) < k) found = trial;
  }
  return found;
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
    const uint32_t kth = ~kth_of_groups<Key::kBits>(maxima, k) & Key::kMask;
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
    take_exactly(keys, items, k, Key::kBits, shared, &counter);
    count = k;
  }
  if (thread >= count) return;
  const Item own = items[thread];
  int place = 0;
#pragma unroll 8
  for (int i = 0; i < count; ++i) place += items[i] < own;
  if (place >= k) return;
  const auto position = static_cast<uint32_t>(own);
  values[place] = x[position];
  indices[place] = position;
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
  queue.launch(wide ? &topk_kernel<T, kWide> : &topk_kernel<T, 1>, static_cast<unsigned>(rows),
               threads, values.data<T>(), indices.data<int64_t>(), x.data<T>(), n,
               static_cast<int>(values.sizes()[1]), largest);
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
