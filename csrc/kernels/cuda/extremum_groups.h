// The largest or smallest of a row of floats and its place: packs are looked at in groups.
#pragma once
#include "kernels/cuda/packs.h"
#include "kernels/cuda/row_chunks.h"

namespace vt::cuda {

// Where the best of a row goes: to the results, or, as an index, to partial [chunk][row].
template <class T>
struct ExtremumResult {
  T* values;
  int64_t *indices, *partial;
};

// The larger or the smaller of two floats; NaN wins.
template <bool kLargest>
struct ExtremeOp {
  __device__ __forceinline__ float operator()(float a, float b) const {
    float result;
    if constexpr (kLargest) asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
    else asm("min.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
    return result;
  }
};

// A whole number that is the larger the better a float is; NaN is the best, both zeros are equal.
template <bool kLargest>
__device__ __forceinline__ int merit(float value) {
  if (value != value) return 0x7fffffff;
  const int bits = __float_as_int((kLargest ? value : -value) + 0.f);
  return bits < 0 ? bits ^ 0x7fffffff : bits;
}
struct LargestOp {
  __device__ __forceinline__ int operator()(int a, int b) const { return a > b ? a : b; }
};
struct SmallestOp {
  __device__ __forceinline__ int operator()(int a, int b) const { return a < b ? a : b; }
};

// The extreme of kWidth threads' whole numbers, for all of them; kNumber tells calls of a kernel
// apart.
template <int kWidth, int kNumber, class Op>
__device__ __forceinline__ int extreme_of_group(int value, Op op) {
  if constexpr (std::is_same_v<Op, LargestOp>) value = __reduce_max_sync(0xffffffffu, value);
  else value = __reduce_min_sync(0xffffffffu, value);
  if constexpr (kWidth > kWarp) {
    __shared__ int parts[kWidth / kWarp];
    if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = parts[0];
#pragma unroll
    for (int w = 1; w < kWidth / kWarp; ++w) value = op(value, parts[w]);
  }
  return value;
}

// The extreme of all elements of some packs; of 16-bit floats two at a time.
template <bool kLargest, class T, int V, int kPacks>
__device__ __forceinline__ float extreme_of(const Pack<T, V> (&packs)[kPacks]) {
  if constexpr (kIsPair<T> && V % 2 == 0) {
    constexpr int kWords = V / 2;
    uint32_t most = 0;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      uint32_t words[kWords];
      memcpy(words, &packs[p], sizeof words);
#pragma unroll
      for (int j = 0; j < kWords; ++j)
        most = p + j == 0 ? words[0] : Pairs<T>::template extreme<kLargest>(most, words[j]);
    }
    const float2 both = Pairs<T>::unpack(most);
    return ExtremeOp<kLargest>{}(both.x, both.y);
  } else {
    float most = convert<float>(packs[0].v[0]);
#pragma unroll
    for (const Pack<T, V>& pack : packs)
#pragma unroll
      for (int j = 0; j < V; ++j) most = ExtremeOp<kLargest>{}(most, convert<float>(pack.v[j]));
    return most;
  }
}

// Blocks of a multiprocessor, all of which run at once.
template <class T>
inline constexpr int kGroupBlocks = sizeof(T) == 2 ? 8 : 4;

// Note [Extremes by groups]
// A thread compares the extreme of a group of packs, which takes an instruction for two 16-bit
// elements, and keeps the first group that has the best one. Where the extreme of all lies in its
// group is looked up at the end, by those threads only whose best it is.
template <class T, bool kLargest, int kWidth, int V>
struct GroupExtreme {
  static constexpr int kTogether = sizeof(T) == 2 ? 2 : 4, kStep = kWidth * V;
  static constexpr int kNowhere = 0x7fffffff;
  const T* x;  // of `end` elements
  int end;
  float best = kLargest ? -INFINITY : INFINITY;  // of groups from `at` on
  int at = kNowhere;
  float last_best = best;  // of elements behind the last whole pack
  int last_at = kNowhere;

  // Not worse than, and later than, what is there; nothing beats NaN.
  static __device__ __forceinline__ bool beats(float value, float best) {
    return !(kLargest ? value <= best : value >= best) && best == best;
  }
  __device__ __forceinline__ Pack<T, V> pack(int i) const {
    return *reinterpret_cast<const Pack<T, V>*>(x + i);
  }
  template <int kPacks>
  __device__ __forceinline__ void see(const Pack<T, V> (&packs)[kPacks], int i) {
    const float value = extreme_of<kLargest>(packs);
    if (at == kNowhere || beats(value, best)) {
      best = value;
      at = i;
    }
  }
  __device__ __forceinline__ void walk(int lane) {
    int i = lane * V;
    for (; i <= end - ((kTogether - 1) * kStep + V); i += kTogether * kStep) {
      Pack<T, V> packs[kTogether];
#pragma unroll
      for (int u = 0; u < kTogether; ++u) packs[u] = pack(i + u * kStep);
      see(packs, i);
    }
    for (; i <= end - V; i += kStep) {
      const Pack<T, V> packs[1] = {pack(i)};
      see(packs, i);
    }
    for (; i < end; ++i) {
      const auto value = convert<float>(x[i]);
      if (last_at == kNowhere || beats(value, last_best)) {
        last_best = value;
        last_at = i;
      }
    }
  }
  // The place of the first of the extremes of the row, for all of its threads; the thread that has
  // it gets its value.
  __device__ __forceinline__ int find(T& value, bool& mine) const {
    const int own = merit<kLargest>(best), own_last = merit<kLargest>(last_best);
    const int most = extreme_of_group<kWidth, 0>(own > own_last ? own : own_last, LargestOp{});
    int place = kNowhere;
    if (at != kNowhere && own == most) {
#pragma unroll
      for (int u = kTogether - 1; u >= 0; --u) {
        const int first = at + u * kStep;
        if (first > end - V) continue;
        const Pack<T, V> again = pack(first);
#pragma unroll
        for (int j = V - 1; j >= 0; --j)
          if (merit<kLargest>(convert<float>(again.v[j])) == most) {
            place = first + j;
            value = again.v[j];
          }
      }
    }
    if (last_at < place && own_last == most) {
      place = last_at;
      value = x[last_at];
    }
    const int first = extreme_of_group<kWidth, 1>(place, SmallestOp{});
    mine = place == first;
    return first;
  }
};

// kWidth threads a row or chunk of it.
template <class T, bool kLargest, int kWidth, int V>
__global__ void __launch_bounds__(kThreads, kGroupBlocks<T>)
    extremum_groups_kernel(ExtremumResult<T> result, const T* x, RowChunks rows) {
  await_earlier();
  const int64_t row = int64_t{blockIdx.x} * (kThreads / kWidth) + threadIdx.x / kWidth;
  if (row >= rows.rows) return;
  const int64_t begin = rows.begin(blockIdx.y);
  GroupExtreme<T, kLargest, kWidth, V> extreme{x + row * rows.n + begin,
                                               static_cast<int>(rows.end(blockIdx.y) - begin)};
  extreme.walk(threadIdx.x % kWidth);
  T value;
  bool mine = false;
  const int place = extreme.find(value, mine);
  if (!mine) return;
  if (result.partial) {
    result.partial[blockIdx.y * rows.rows + row] = begin + place;
  } else {
    result.values[row] = value;
    result.indices[row] = place;
  }
}

}  // namespace vt::cuda
