// Reductions over the threads that hold a row. Read by the run-time compiler only.
#pragma once
#include "fuse/prelude.h"

namespace {

template <class C>
struct Sum {
  using type = C;
  __device__ static C identity() { return C(0); }
  __device__ static C combine(C a, C b) { return a + b; }
};
// NaN wins, as in the reductions built ahead of time.
template <class C>
struct Largest {
  using type = C;
  __device__ static C identity() { return -std::numeric_limits<C>::infinity(); }
  __device__ static C combine(C a, C b) { return a != a ? a : b != b ? b : a > b ? a : b; }
};
template <class C>
struct Smallest {
  using type = C;
  __device__ static C identity() { return std::numeric_limits<C>::infinity(); }
  __device__ static C combine(C a, C b) { return a != a ? a : b != b ? b : a < b ? a : b; }
};

// Over the W threads of a row: a warp, or the whole block. Every thread gets the result.
template <int W, class Op>
__device__ __forceinline__ typename Op::type reduce_row(typename Op::type value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    value = Op::combine(value, __shfl_xor_sync(0xffffffffu, value, step));
  if constexpr (W > 32) {
    __shared__ typename Op::type parts[W / 32];
    __syncthreads();  // the parts of the reduction before are read
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
    __syncthreads();
    value = parts[0];
#pragma unroll
    for (int w = 1; w < W / 32; ++w) value = Op::combine(value, parts[w]);
  }
  return value;
}

}  // namespace
