// The passes of the radix sort: count the digits of each tile, scan the counts, move every key to
// its place.
#include "kernels/cuda/radix_sort.h"

#include <limits>

namespace vt::cuda {
namespace {

constexpr int kDigits = 256, kDigitBits = 8;
constexpr int kMostRounds = 16;  // kThreads keys each
constexpr int kWarps = kThreads / kWarp;
static_assert(kDigits == kThreads, "one thread keeps each digit");

template <class K>
__device__ __forceinline__ int digit_of(K key, int shift) {
  return static_cast<int>(key >> shift) & (kDigits - 1);
}

// counts[digit][tile]
template <class K>
__global__ void __launch_bounds__(kThreads)
    count_digits_kernel(uint32_t* counts, const K* keys, int64_t count, int shift, int rounds) {
  await_earlier();
  __shared__ uint32_t local[kDigits];
  local[threadIdx.x] = 0;
  __syncthreads();
  const int64_t begin = int64_t{blockIdx.x} * rounds * kThreads;
  for (int r = 0; r < rounds; ++r) {
    const int64_t i = begin + r * kThreads + threadIdx.x;
    if (i < count)
      atomicAdd(&local[digit_of(keys[i], shift)], 1u);  // integers: the order does not matter
  }
  __syncthreads();
  counts[int64_t{threadIdx.x} * gridDim.x + blockIdx.x] = local[threadIdx.x];
}

// starts[digit][tile]: where the tile's keys of that digit go.
template <class K>
__global__ void __launch_bounds__(kThreads)
    place_keys_kernel(K* out_keys, uint32_t* out_positions, const K* keys,
                      const uint32_t* positions, const uint32_t* starts, int64_t count, int shift,
                      int rounds) {
  await_earlier();
  __shared__ uint32_t next[kDigits];
  __shared__ uint32_t warp_counts[kWarps][kDigits];
  const int warp = threadIdx.x / kWarp;
  const unsigned before = (1u << (threadIdx.x % kWarp)) - 1;
  next[threadIdx.x] = starts[int64_t{threadIdx.x} * gridDim.x + blockIdx.x];
  for (int r = 0; r < rounds; ++r) {
    for (int w = 0; w < kWarps; ++w) warp_counts[w][threadIdx.x] = 0;
    __syncthreads();
    const int64_t i = (int64_t{blockIdx.x} * rounds + r) * kThreads + threadIdx.x;
    const bool active = i < count;
    const K key = active ? keys[i] : K(0);
    const int digit = active ? digit_of(key, shift) : kDigits;
    // Lanes of the same digit, in their order; lanes past the end form a group of their own.
    const unsigned same = __match_any_sync(0xffffffffu, digit);
    const int rank = __popc(same & before);
    if (active && rank == 0) warp_counts[warp][digit] = __popc(same);
    __syncthreads();
    if (active) {
      uint32_t to = next[digit] + rank;
      for (int w = 0; w < warp; ++w) to += warp_counts[w][digit];
      out_keys[to] = key;
      out_positions[to] = positions ? positions[i] : static_cast<uint32_t>(i);
    }
    __syncthreads();
    for (int w = 0; w < kWarps; ++w) next[threadIdx.x] += warp_counts[w][threadIdx.x];
    __syncthreads();
  }
}

constexpr int kScanThreads = 1024, kScanItems = 8;

// One block: the scans here are short (256 numbers for 4096 keys).
__global__ void __launch_bounds__(kScanThreads)
    exclusive_scan_kernel(uint32_t* out, const uint32_t* in, int64_t count) {
  await_earlier();
  __shared__ uint32_t warp_sums[kScanThreads / kWarp];
  __shared__ uint32_t tile_sum;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const bool aligned =
      (reinterpret_cast<uintptr_t>(in) | reinterpret_cast<uintptr_t>(out)) % sizeof(uint4) == 0;
  uint32_t carry = 0;
  for (int64_t tile = 0; tile < count; tile += kScanThreads * kScanItems) {
    const int64_t begin = tile + threadIdx.x * kScanItems;
    uint32_t items[kScanItems], sum = 0;
    const bool lines = aligned && begin + kScanItems <= count;
    if (lines) {
#pragma unroll
      for (int j = 0; j < kScanItems; j += 4) {
        const uint4 four = *reinterpret_cast<const uint4*>(in + begin + j);
        items[j] = four.x, items[j + 1] = four.y, items[j + 2] = four.z, items[j + 3] = four.w;
      }
    } else {
#pragma unroll
      for (int j = 0; j < kScanItems; ++j) items[j] = begin + j < count ? in[begin + j] : 0;
    }
#pragma unroll
    for (int j = 0; j < kScanItems; ++j) sum += items[j];
    uint32_t running = sum;  // inclusive over the warp
#pragma unroll
    for (int d = 1; d < kWarp; d *= 2) {
      const uint32_t other = __shfl_up_sync(0xffffffffu, running, d);
      if (lane >= d) running += other;
    }
    if (lane == kWarp - 1) warp_sums[warp] = running;
    __syncthreads();
    if (warp == 0) {
      uint32_t total = warp_sums[lane];
#pragma unroll
      for (int d = 1; d < kWarp; d *= 2) {
        const uint32_t other = __shfl_up_sync(0xffffffffu, total, d);
        if (lane >= d) total += other;
      }
      warp_sums[lane] = total;
      if (lane == kWarp - 1) tile_sum = total;
    }
    __syncthreads();
    uint32_t at = carry + running - sum + (warp > 0 ? warp_sums[warp - 1] : 0);
#pragma unroll
    for (int j = 0; j < kScanItems; ++j) {
      const uint32_t next = at + items[j];
      items[j] = at;
      at = next;
    }
    if (lines) {
#pragma unroll
      for (int j = 0; j < kScanItems; j += 4)
        *reinterpret_cast<uint4*>(out + begin + j) = {items[j], items[j + 1], items[j + 2],
                                                      items[j + 3]};
    } else {
#pragma unroll
      for (int j = 0; j < kScanItems; ++j)
        if (begin + j < count) out[begin + j] = items[j];
    }
    carry += tile_sum;
    __syncthreads();
  }
  if (threadIdx.x == 0) out[count] = carry;
}

// Keys a block has: few keys are spread over many blocks, as long as one block scans their digits
// at once.
int rounds_of(int64_t count) {
  constexpr int64_t kBlocks = kScanThreads * kScanItems / kDigits;
  return static_cast<int>(std::clamp<int64_t>(ceil_div(count, kThreads * kBlocks), 1, kMostRounds));
}
int64_t tiles_of(int64_t count) { return ceil_div(count, int64_t{kThreads} * rounds_of(count)); }

}  // namespace

void exclusive_scan(const Queue& queue, uint32_t* out, const uint32_t* in, int64_t count) {
  queue.launch_early(&exclusive_scan_kernel, 1, kScanThreads, out, in, count);
}

template <class K>
RadixSort<K>::RadixSort(const Queue& queue, int64_t count)
    : queue_(queue),
      count_(count),
      key_memory_(queue, 2 * count),
      position_memory_(queue, 2 * count),
      digit_memory_(queue, tiles_of(count) * kDigits + 1) {
  VT_CHECK(count < std::numeric_limits<uint32_t>::max(), kRuntime, "sort: ", count,
           " elements are more than the 2^32 - 2 that one call sorts");
  for (int i = 0; i < 2; ++i) {
    keys_[i] = key_memory_.get() + i * count;
    positions_[i] = position_memory_.get() + i * count;
  }
}

template <class K>
void RadixSort<K>::sort(int bits, bool numbered) {
  if (count_ >= kMany) {
    K* keys[2] = {keys_[now_], keys_[now_ ^ 1]};
    uint32_t* positions[2] = {positions_[now_], positions_[now_ ^ 1]};
    now_ ^= sort_many(queue_, keys, positions, count_, bits, numbered);
    return;
  }
  const int64_t tiles = tiles_of(count_);
  const int rounds = rounds_of(count_);
  uint32_t* digits = digit_memory_.get();
  for (int shift = 0; shift < bits; shift += kDigitBits, now_ ^= 1) {
    queue_.launch_early(&count_digits_kernel<K>, tiles, kThreads, digits, keys_[now_], count_,
                        shift, rounds);
    exclusive_scan(queue_, digits, digits, tiles * kDigits);
    queue_.launch_early(
        &place_keys_kernel<K>, tiles, kThreads, keys_[now_ ^ 1], positions_[now_ ^ 1], keys_[now_],
        numbered || shift > 0 ? positions_[now_] : nullptr, digits, count_, shift, rounds);
  }
}

template class RadixSort<uint32_t>;
template class RadixSort<uint64_t>;

}  // namespace vt::cuda
