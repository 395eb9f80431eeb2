// Kernels that treat a matrix row by row: one warp a row up to 1024 elements, one block of kThreads
// beyond.
#pragma once
#include <initializer_list>

#include "kernels/cuda/block.h"

namespace vt::cuda {

inline constexpr int64_t kWarpRow = 1024;

template <int kWidth>
__device__ __forceinline__ int64_t row_of_group() {
  return int64_t{blockIdx.x} * (kThreads / kWidth) + threadIdx.x / kWidth;
}
template <int kWidth>
int64_t row_blocks(int64_t rows) {
  return ceil_div(rows, kThreads / kWidth);
}

template <int kWidth, class T, class Op>
__device__ __forceinline__ T group_reduce(T value, Op op) {
  if constexpr (kWidth <= kWarp) return warp_reduce<kWidth>(value, op);
  else return block_reduce<kWidth>(value, op);
}
template <int kWidth, class T>
__device__ __forceinline__ T group_sum(T value) {
  return group_reduce<kWidth>(value, AddOp{});
}

// Calls f(integer_sequence<int, threads a row, elements a pack>) for rows of n elements.
template <class T, class F>
void for_row_shape(int64_t n, std::initializer_list<const Tensor*> tensors, F&& f) {
  constexpr int V = 16 / sizeof(T);
  bool packed = n % V == 0;
  for (const Tensor* t : tensors) packed &= !t->defined() || is_aligned(t->data(), 16);
  if (n <= kWarpRow && packed) f(std::integer_sequence<int, kWarp, V>{});
  else if (n <= kWarpRow) f(std::integer_sequence<int, kWarp, 1>{});
  else if (packed) f(std::integer_sequence<int, kThreads, V>{});
  else f(std::integer_sequence<int, kThreads, 1>{});
}

template <class T>
T* data_or_null(const Tensor& t) {
  return t.defined() ? t.data<T>() : nullptr;
}

}  // namespace vt::cuda
