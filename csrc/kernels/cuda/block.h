// What the threads of a warp or block do together: reductions in a fixed order, so that the same
// input gives the same bits in every run.
#pragma once
#include "kernels/cuda/launch.h"

namespace vt::cuda {

// A tensor seen as [outer, n, inner] around one dimension.
struct Lines {
  int64_t outer = 1, n = 1, inner = 1;
  Lines(const Dims& sizes, int dim) {
    for (int d = 0; d < sizes.size(); ++d) (d < dim ? outer : d == dim ? n : inner) *= sizes[d];
  }
  int64_t count() const { return outer * inner; }
};

struct AddOp {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
// NaN wins.
struct MaxOp {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};

// NaNs are passed over.
struct LargerOp {
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
  __device__ __forceinline__ double operator()(double a, double b) const { return ::fmax(a, b); }
};

// Any trivially copyable T of 4, 8, 12 or 16 bytes.
template <class T>
__device__ __forceinline__ T shuffle_xor(T value, int lane_mask) {
  if constexpr (std::is_arithmetic_v<T> && sizeof(T) >= 4) {
    return __shfl_xor_sync(0xffffffffu, value, lane_mask);
  } else if constexpr (std::is_arithmetic_v<T>) {
    return static_cast<T>(__shfl_xor_sync(0xffffffffu, static_cast<int>(value), lane_mask));
  } else {
    static_assert(sizeof(T) % 4 == 0);
    int words[sizeof(T) / 4];
    memcpy(words, &value, sizeof(T));
#pragma unroll
    for (int& word : words) word = __shfl_xor_sync(0xffffffffu, word, lane_mask);
    memcpy(&value, words, sizeof(T));
    return value;
  }
}

// Every lane gets the result of its group of kWidth lanes. `op` must be commutative in its bits.
template <int kWidth = kWarp, class T, class Op>
__device__ __forceinline__ T warp_reduce(T value, Op op) {
#pragma unroll
  for (int mask = kWidth / 2; mask > 0; mask /= 2) value = op(value, shuffle_xor(value, mask));
  return value;
}

// Every thread of a block of kBlock threads gets the result. May be called again at once.
template <int kBlock, class T, class Op>
__device__ __forceinline__ T block_reduce(T value, Op op) {
  static_assert(kBlock % kWarp == 0);
  value = warp_reduce(value, op);
  if constexpr (kBlock == kWarp) return value;
  constexpr int kWarps = kBlock / kWarp;
  __shared__ alignas(16) char storage[kWarps * sizeof(T)];
  T* parts = reinterpret_cast<T*>(storage);
  __syncthreads();  // the parts of an earlier call are read
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
  __syncthreads();
  T result = parts[0];
#pragma unroll
  for (int w = 1; w < kWarps; ++w) result = op(result, parts[w]);
  return result;
}

template <int kBlock, class T>
__device__ __forceinline__ T block_sum(T value) {
  return block_reduce<kBlock>(value, AddOp{});
}
template <int kBlock, class T>
__device__ __forceinline__ T block_max(T value) {
  return block_reduce<kBlock>(value, MaxOp{});
}

// start, load(begin), load(begin + step), ... below end, combined in that order; kTogether loads
// are on their way at once.
template <int kTogether, class T, class Load, class Op>
__device__ __forceinline__ T combine_strided(T start, int begin, int end, int step, Load&& load,
                                             Op&& op) {
  for (int first = begin; first < end; first += kTogether * step) {
    T values[kTogether];
#pragma unroll
    for (int u = 0; u < kTogether; ++u)
      if (const int i = first + u * step; i < end) values[u] = load(i);
#pragma unroll
    for (int u = 0; u < kTogether; ++u)
      if (first + u * step < end) start = op(start, values[u]);
  }
  return start;
}

}  // namespace vt::cuda
