// A block copies bytes of any alignment, 16 at a time.
#pragma once
#include "collectives/cuda/vector.cuh"

namespace vt::collectives::gpu {

// 16 bytes that begin `shift` (1 to 15) bytes into `low`, which is followed by `high`.
__device__ inline uint4 spliced(uint4 low, uint4 high, int shift) {
  uint32_t w[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
  if (shift & 8) {
#pragma unroll
    for (int i = 0; i < 6; ++i) w[i] = w[i + 2];
  }
  if (shift & 4) {
#pragma unroll
    for (int i = 0; i < 5; ++i) w[i] = w[i + 1];
  }
  const int bits = shift % 4 * 8;
  return {__funnelshift_r(w[0], w[1], bits), __funnelshift_r(w[1], w[2], bits),
          __funnelshift_r(w[2], w[3], bits), __funnelshift_r(w[3], w[4], bits)};
}

// By all threads of a block, without a barrier. Stores whole aligned words; of the source only
// words that lie inside it are read, so that what is around it may be anybody's.
__device__ inline void copy_chunk(char* to, const char* from, int64_t bytes) {
  constexpr int kUnroll = 4;
  const auto offset = [](const void* p) {
    return static_cast<int>(reinterpret_cast<uintptr_t>(p) % 16);
  };
  int64_t head = (16 - offset(to)) % 16, words = 0;
  int shift = 0;
  if (bytes >= 64) {
    shift = offset(from + head);
    if (head < shift) head += 16;  // the word before would begin before the source
    words = (bytes - head) / 16;
    if (shift && head - shift + 16 * (words + 1) > bytes) --words;
  } else {
    head = bytes;
  }
  const int step = static_cast<int>(blockDim.x);
  char* const out = to + head;
  const char* const in = from + head - shift;
  if (shift == 0) {
    for (int64_t i = threadIdx.x; i < words; i += step * kUnroll) {
      uint4 word[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u)
        if (i + u * step < words) word[u] = load16(in + (i + u * step) * 16);
#pragma unroll
      for (int u = 0; u < kUnroll; ++u)
        if (i + u * step < words) store16(out + (i + u * step) * 16, word[u]);
    }
  } else {
    for (int64_t i = threadIdx.x; i < words; i += step)
      store16(out + i * 16, spliced(load16(in + i * 16), load16(in + i * 16 + 16), shift));
  }
  for (int64_t i = threadIdx.x; i < head; i += step) to[i] = load_one(from + i);
  for (int64_t i = head + words * 16 + threadIdx.x; i < bytes; i += step)
    to[i] = load_one(from + i);
}

}  // namespace vt::collectives::gpu
