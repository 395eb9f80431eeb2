// A stable radix sort of a row by one block: keys in registers, their positions in shared memory.
#pragma once
#include "kernels/cuda/block.h"
#include "kernels/cuda/sort_key.h"

namespace vt::cuda {

// Note [A row in a block]
// Each warp has a stretch of the row, 32 neighbours at a time, and numbers equal digits among its
// keys in their order. The numbers of all warps together say where a key goes; keys and positions
// change places through shared memory, so that the row is read and written once, whatever the
// number of digits.
template <int kBlock, int kItems>
struct BlockSort {
  static constexpr int kWarps = kBlock / kWarp, kAll = kBlock * kItems;
  static constexpr int kDigits = 256, kDigitBits = 8;
  // Digits of a thread, where there are fewer threads, and the threads that have some.
  static constexpr int kEach = kBlock < kDigits ? kDigits / kBlock : 1, kSumming = kDigits / kEach;
  static constexpr size_t kShared =
      kAll * (sizeof(uint32_t) + sizeof(uint16_t)) + kWarps * kDigits * sizeof(uint16_t);
  static_assert(kAll <= 65536 && kItems % 2 == 0 && kItems * kWarp >= kDigits);

  // Numbers of 16 bits, two a register.
  struct Halves {
    uint32_t words[kItems / 2];
    __device__ __forceinline__ uint32_t get(int j) const {
      return j % 2 ? words[j / 2] >> 16 : words[j / 2] & 0xffffu;
    }
    __device__ __forceinline__ void set(int j, uint32_t value) {
      uint32_t& word = words[j / 2];
      word = j % 2 ? (word & 0xffffu) | value << 16 : (word & 0xffff0000u) | value;
    }
  };

  uint32_t* keys_at;        // kAll
  uint16_t* places_at;      // kAll: where the key of that place was
  uint16_t* counts_at;      // [warp][digit]
  uint32_t *starts, *sums;  // kDigits, kWarps

  // Item j of a thread is at first() + 32 j.
  static __device__ __forceinline__ int first() {
    return static_cast<int>(threadIdx.x) / kWarp * (kItems * kWarp) +
           static_cast<int>(threadIdx.x) % kWarp;
  }
  static __device__ __forceinline__ uint32_t digit(uint32_t key, int shift) {
    return key >> shift & (kDigits - 1);
  }
  // Each key's number among those of its warp with the same digit; counts[warp] tells how many.
  __device__ __forceinline__ void number(const uint32_t (&keys)[kItems], int shift,
                                         Halves& numbers) const {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const unsigned before = (1u << lane) - 1;
    uint16_t* counts = counts_at + warp * kDigits;
    // Lanes of the same digit meet in a word each, where there are no keys at this time.
    uint32_t* meetings = keys_at + warp * kDigits;
    reinterpret_cast<uint4*>(counts)[lane] = uint4{0, 0, 0, 0};
#pragma unroll
    for (int half = 0; half < 2; ++half)
      reinterpret_cast<uint4*>(meetings)[lane + half * kWarp] = uint4{0, 0, 0, 0};
    __syncwarp();
#pragma unroll
    for (int j = 0; j < kItems; ++j) {
      const uint32_t own = digit(keys[j], shift);
      atomicOr(meetings + own, 1u << lane);
      __syncwarp();
      const unsigned lanes = meetings[own];
      const uint32_t met = counts[own];
      __syncwarp();
      if ((lanes & before) == 0) {
        counts[own] = static_cast<uint16_t>(met + __popc(lanes));
        meetings[own] = 0;
      }
      __syncwarp();
      numbers.set(j, met + __popc(lanes & before));
    }
  }

  // counts becomes, for each warp, the keys of that digit in the warps before it; starts the keys
  // of all digits before one.
  __device__ __forceinline__ void add_up() const {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    uint32_t each[kEach], sum = 0;
    if (threadIdx.x < kSumming) {
#pragma unroll
      for (int m = 0; m < kEach; ++m) {
        uint16_t* of_digit = counts_at + threadIdx.x * kEach + m;
        uint32_t counts[kWarps], running = 0;
#pragma unroll
        for (int w = 0; w < kWarps; ++w) counts[w] = of_digit[w * kDigits];
#pragma unroll
        for (int w = 0; w < kWarps; ++w) {
          of_digit[w * kDigits] = static_cast<uint16_t>(running);
          running += counts[w];
        }
        each[m] = running;
        sum += running;
      }
      uint32_t running = sum;
#pragma unroll
      for (int d = 1; d < kWarp; d *= 2) {
        const uint32_t other = __shfl_up_sync(0xffffffffu, running, d);
        if (lane >= d) running += other;
      }
      if (lane == kWarp - 1) sums[warp] = running;
      sum = running - sum;
    }
    __syncthreads();
    if (threadIdx.x < kSumming) {
      for (int w = 0; w < warp; ++w) sum += sums[w];
#pragma unroll
      for (int m = 0; m < kEach; ++m) {
        starts[threadIdx.x * kEach + m] = sum;
        sum += each[m];
      }
    }
    __syncthreads();
  }

  // Sorts by kBits bits; at the end a thread has the keys of its places in the sorted row, and
  // places_at tells where they were.
  template <int kBits>
  __device__ __forceinline__ void sort(uint32_t (&keys)[kItems]) const {
    const int warp = threadIdx.x / kWarp;
#pragma unroll
    for (int j = 0; j < kItems; ++j)
      places_at[first() + j * kWarp] = static_cast<uint16_t>(first() + j * kWarp);
#pragma unroll 1
    for (int shift = 0; shift < kBits; shift += kDigitBits) {
      Halves goals{}, places{};
      number(keys, shift, goals);
      __syncthreads();
      add_up();
#pragma unroll
      for (int j = 0; j < kItems; ++j) {
        const uint32_t own = digit(keys[j], shift);
        const uint32_t goal = goals.get(j) + counts_at[warp * kDigits + own] + starts[own];
        keys_at[goal] = keys[j];
        goals.set(j, goal);
      }
#pragma unroll
      for (int j = 0; j < kItems; ++j) places.set(j, places_at[first() + j * kWarp]);
      __syncthreads();
#pragma unroll
      for (int j = 0; j < kItems; ++j)
        places_at[goals.get(j)] = static_cast<uint16_t>(places.get(j));
#pragma unroll
      for (int j = 0; j < kItems; ++j) keys[j] = keys_at[first() + j * kWarp];
      __syncthreads();
    }
  }
};

// A block a row of n elements, at most kBlock * kItems.
template <class T, int kBlock, int kItems>
__global__ void __launch_bounds__(kBlock)
    sort_block_rows_kernel(T* values, int64_t* indices, const T* x, int n, bool descending) {
  await_earlier();
  using Key = SortKey<T>;
  using Sort = BlockSort<kBlock, kItems>;
  extern __shared__ __align__(16) char room[];
  __shared__ uint32_t starts[Sort::kDigits], sums[Sort::kWarps];
  auto* keys_at = reinterpret_cast<uint32_t*>(room);
  auto* places_at = reinterpret_cast<uint16_t*>(keys_at + Sort::kAll);
  const Sort sort{keys_at, places_at, places_at + Sort::kAll, starts, sums};
  const int64_t row = int64_t{blockIdx.x} * n;
  x += row;
  uint32_t keys[kItems];
#pragma unroll
  for (int j = 0; j < kItems; ++j) {
    const int at = Sort::first() + j * kWarp;
    const uint32_t key = Key::of(x[at < n ? at : 0]);
    // What is past the row comes last: equal keys keep their order.
    keys[j] = at >= n ? ~uint32_t{0} : descending ? ~key & Key::kMask : key;
  }
  sort.template sort<Key::kBits>(keys);
#pragma unroll
  for (int j = 0; j < kItems; ++j) {
    const int at = Sort::first() + j * kWarp;
    if (at >= n) continue;
    const int place = places_at[at];
    const uint32_t key = descending ? ~keys[j] & Key::kMask : keys[j];
    values[row + at] = Key::is_exact(key) ? Key::value(key) : x[place];
    indices[row + at] = place;
  }
}

}  // namespace vt::cuda
