// A row kept close to the threads that work on it, so that kernels which need it twice read it from
// memory once: in registers, in shared memory, or, where it is too long or not aligned, walked
// again. All three look alike to a kernel.
//
// A lane sees its own packs only, so that nothing here needs a barrier.
#pragma once
#include <initializer_list>

#include "kernels/cuda/block.h"
#include "kernels/cuda/cache_policy.h"

namespace vt::cuda {

// Lane l of kThreadsARow holds the packs l, l + kThreadsARow, ... of kVector elements each.
template <class T, int kThreadsARow, int kPacks>
struct RegisterRow {
  static constexpr int V = 16 / sizeof(T), kWidth = kThreadsARow;
  static constexpr bool kShared = false, kHeld = true;
  Pack<T, V> packs[kPacks];

  // Element number of a lane's pack; n is a multiple of V.
  static __device__ __forceinline__ int start(int pack, int lane) {
    return (pack * kWidth + lane) * V;
  }
  __device__ __forceinline__ void load(const T* row, int64_t n, int lane) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      // Past the end the first pack again: a load that may not happen would have the compiler wait
      // for it at once, to merge what was there before.
      const int i = start(p, lane);
      packs[p] = *reinterpret_cast<const Pack<T, V>*>(row + (i < static_cast<int>(n) ? i : 0));
    }
  }
  __device__ __forceinline__ void store(T* row, int64_t n, int lane) const {
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (const int i = start(p, lane); i < static_cast<int>(n))
        *reinterpret_cast<Pack<T, V>*>(row + i) = packs[p];
  }
  // The same with what the cache is told about it.
  __device__ __forceinline__ void load(const T* row, int64_t n, int lane, CachePolicy policy) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int i = start(p, lane);
      packs[p] = policy.load(reinterpret_cast<const Pack<T, V>*>(row + (i < n ? i : 0)));
    }
  }
  __device__ __forceinline__ void store(T* row, int64_t n, int lane, CachePolicy policy) const {
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (const int i = start(p, lane); i < static_cast<int>(n))
        policy.store(reinterpret_cast<Pack<T, V>*>(row + i), packs[p]);
  }
  // The lane's p-th pack, which begins at element i.
  __device__ __forceinline__ const Pack<T, V>& at(int64_t, int p) const { return packs[p]; }
  // Between two walks: the compiler would keep elements that it has widened, in twice the
  // registers.
  __device__ __forceinline__ void keep_packed() {
#pragma unroll
    for (Pack<T, V>& pack : packs) {
      uint32_t words[4];
      memcpy(words, &pack, 16);
#pragma unroll
      for (uint32_t& word : words) asm volatile("" : "+r"(word));
      memcpy(&pack, words, 16);
    }
  }
  // f(element number, pack, p) for the lane's packs that the row has.
  template <class F>
  __device__ __forceinline__ void each(int64_t n, int lane, F&& f) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (const int i = start(p, lane); i < static_cast<int>(n)) f(i, packs[p], p);
  }
};

// One block a row, in its dynamic shared memory: n * sizeof(T) bytes.
template <class T, int kThreadsARow>
struct SharedRow {
  static constexpr int V = 16 / sizeof(T), kWidth = kThreadsARow;
  static constexpr bool kShared = true, kHeld = true;
  Pack<T, V>* packs;

  __device__ __forceinline__ void load(const T* row, int64_t n, int lane) {
    extern __shared__ __align__(16) char shared[];
    packs = reinterpret_cast<Pack<T, V>*>(shared);
    start(row, n, lane);
    asm volatile("cp.async.wait_all;" ::: "memory");
  }
  // Starts the copy of a row to `packs`; one cp.async group, which the caller waits for.
  __device__ __forceinline__ void start(const T* row, int64_t n, int lane) const {
    for (int p = lane; p < static_cast<int>(n / V); p += kWidth)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                       static_cast<unsigned>(__cvta_generic_to_shared(packs + p))),
                   "l"(row + p * V)
                   : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
  __device__ __forceinline__ const Pack<T, V>& at(int64_t i, int) const { return packs[i / V]; }
  __device__ __forceinline__ void keep_packed() {}
  template <class F>
  __device__ __forceinline__ void each(int64_t n, int lane, F&& f) {
#pragma unroll 4
    for (int p = lane; p < static_cast<int>(n / V); p += kWidth) f(p * V, packs[p], 0);
  }
};

// Left in memory and read at each use.
template <class T, int kThreadsARow, int kVector>
struct WalkedRow {
  static constexpr int V = kVector, kWidth = kThreadsARow;
  static constexpr bool kShared = false, kHeld = false;
  const T* row;

  __device__ __forceinline__ void load(const T* memory, int64_t, int) { row = memory; }
  __device__ __forceinline__ Pack<T, V> at(int64_t i, int) const {
    return *reinterpret_cast<const Pack<T, V>*>(row + i);
  }
  __device__ __forceinline__ void keep_packed() {}
  template <class F>
  __device__ __forceinline__ void each(int64_t n, int lane, F&& f) {
    constexpr int kTogether = 4;  // loads that are on their way at once
    for (int64_t begin = lane * V; begin < n; begin += int64_t{kTogether} * kWidth * V) {
      Pack<T, V> packs[kTogether];
#pragma unroll
      for (int u = 0; u < kTogether; ++u)
        if (const int64_t i = begin + u * kWidth * V; i < n) packs[u] = at(i, 0);
#pragma unroll
      for (int u = 0; u < kTogether; ++u)
        if (const int64_t i = begin + u * kWidth * V; i < n) f(i, packs[u], 0);
    }
  }
};

// Threads a block for rows of kWidth threads each.
constexpr int held_block(int width) { return width <= kWarp ? 4 * kWarp : width; }
template <class Row>
__device__ __forceinline__ int64_t held_row_number() {
  return int64_t{blockIdx.x} * (held_block(Row::kWidth) / Row::kWidth) + threadIdx.x / Row::kWidth;
}

// As group_reduce for a row of kWidth threads, with one barrier: a kernel gives each of its
// reductions a number of its own.
template <int kWidth, int kNumber, class T, class Op>
__device__ __forceinline__ T row_reduce(T value, Op op) {
  value = warp_reduce<(kWidth < kWarp ? kWidth : kWarp)>(value, op);
  if constexpr (kWidth > kWarp) {
    __shared__ alignas(16) char storage[kWidth / kWarp * sizeof(T)];
    T* parts = reinterpret_cast<T*>(storage);
    if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = parts[0];
#pragma unroll
    for (int w = 1; w < kWidth / kWarp; ++w) value = op(value, parts[w]);
  }
  return value;
}

// Can rows of n elements of these tensors (undefined ones are passed over) be cut into packs of 16
// bytes?
template <class T>
bool rows_are_packed(int64_t n, std::initializer_list<const Tensor*> tensors) {
  bool packed = n % (16 / static_cast<int>(sizeof(T))) == 0;
  for (const Tensor* t : tensors) packed &= !t->defined() || is_aligned(t->data(), 16);
  return packed;
}

template <int kWidth, int kPacks>
struct RowShape {
  static constexpr int width = kWidth, packs = kPacks;
};

// Calls f(RowShape) with the first of these shapes that holds `packs` packs; false: none does.
template <class... Shapes, class F>
bool choose_row_shape(int64_t packs, F&& f) {
  return ((packs <= Shapes::width * Shapes::packs && (f(Shapes{}), true)) || ...);
}

// For rows of up to 512 packs: a warp each as far as it has registers for many loads, then few
// warps.
template <class F>
bool choose_short_row(int64_t packs, F&& f) {
  return choose_row_shape<RowShape<16, 2>, RowShape<32, 2>, RowShape<32, 4>, RowShape<32, 8>,
                          RowShape<128, 4>>(packs, f);
}

template <class Row>
struct RowTag {
  using type = Row;
};

// Calls f(RowTag<Row>) with the holder for kernels that walk a row of n elements once.
template <class T, class F>
void visit_walked_row(int64_t n, bool packed, F&& f) {
  constexpr int V = 16 / sizeof(T);
  if (n <= 1024 && packed) f(RowTag<WalkedRow<T, kWarp, V>>{});
  else if (n <= 1024) f(RowTag<WalkedRow<T, kWarp, 1>>{});
  else if (packed) f(RowTag<WalkedRow<T, kThreads, V>>{});
  else f(RowTag<WalkedRow<T, kThreads, 1>>{});
}

inline constexpr int kSharedRowThreads = 512;
// At least the bytes of shared memory that kernels over held rows declare for their reductions.
inline constexpr size_t kDeclared = 1024;

// Blocks that a multiprocessor should hold: a block of 512 threads that takes more than half of the
// registers has nobody beside it while it waits. (Rows of doubles need them.)
template <class Row>
constexpr int held_blocks() {
  return Row::kWidth == kSharedRowThreads && Row::V > 2 ? 2 : 1;
}

// Calls f(RowTag<Row>, bytes of shared memory) with the best holder of rows of n elements, for a
// kernel that holds a row or two.
template <class T, class F>
void choose_held_row(const Queue& queue, int64_t n, bool packed, F&& f) {
  constexpr int V = 16 / sizeof(T);
  const auto bytes = n * static_cast<int64_t>(sizeof(T));
  auto in_registers = [&]<class Shape>(Shape) {
    f(RowTag<RegisterRow<T, Shape::width, Shape::packs>>{}, size_t{0});
  };
  auto walked = [&]<class Row>(RowTag<Row> row) { f(row, size_t{0}); };
  if (!packed) return visit_walked_row<T>(n, false, walked);
  if (choose_short_row(n / V, in_registers)) return;
  if (choose_row_shape<RowShape<256, 4>, RowShape<kSharedRowThreads, 4>,
                       RowShape<kSharedRowThreads, 8>>(n / V, in_registers))
    return;
  if (bytes + static_cast<int64_t>(kDeclared) <= queue.shared_limit())
    return f(RowTag<SharedRow<T, kSharedRowThreads>>{}, static_cast<size_t>(bytes));
  visit_walked_row<T>(n, true, walked);
}

// Launches a kernel for rows of that holder, which begins with await_earlier().
template <class Row, class... Parameters, class... Arguments>
void launch_held(const Queue& queue, void (*kernel)(Parameters...), int64_t rows, size_t shared,
                 Arguments&&... arguments) {
  constexpr int block = held_block(Row::kWidth);
  // What the kernel declares itself counts towards the 48 KiB that need no asking.
  if (shared + kDeclared > (48 << 10))
    queue.allow_shared(reinterpret_cast<const void*>(kernel), shared);
  queue.launch_shared<Start::kEarly>(kernel, ceil_div(rows, block / Row::kWidth), block, shared,
                                     std::forward<Arguments>(arguments)...);
}

}  // namespace vt::cuda
