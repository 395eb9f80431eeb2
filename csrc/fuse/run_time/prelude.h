// What every generated kernel starts with: moving values between memory and registers, and
// conversions as kernels/cuda/launch.h does them. Read by the run-time compiler only.
#pragma once
#include "kernels/pointwise.h"

namespace {

template <int V>
struct Count {};

template <class T>
struct ComputeOf {
  using type = T;
};
template <>
struct ComputeOf<vt::Half> {
  using type = float;
};
template <>
struct ComputeOf<vt::BFloat16> {
  using type = float;
};
template <class T>
using compute_t = typename ComputeOf<T>::type;

template <class To, class From>
__device__ __forceinline__ To convert(From value) {
  if constexpr (std::is_same_v<To, From>) return value;
  else if constexpr (std::is_same_v<To, bool>)
    return static_cast<compute_t<From>>(value) != compute_t<From>(0);
  else if constexpr (std::is_same_v<To, vt::Half> || std::is_same_v<To, vt::BFloat16>)
    return To(static_cast<float>(static_cast<compute_t<From>>(value)));
  else return static_cast<To>(static_cast<compute_t<From>>(value));
}

template <class T, int V>
struct Values {
  T v[V];
};
// What moves in one instruction: 16 bytes at most.
template <class T, int W>
struct alignas(sizeof(T) * W) Pack {
  T v[W];
};
template <class T, int V>
constexpr int kWidth = sizeof(T) * V <= 16 ? V : 16 / static_cast<int>(sizeof(T));

template <class T, int V>
__device__ __forceinline__ Values<T, V> load_packed(const char* from) {
  constexpr int W = kWidth<T, V>;
  Values<T, V> result;
#pragma unroll
  for (int k = 0; k < V; k += W) {
    const auto pack = *reinterpret_cast<const Pack<T, W>*>(from + k * sizeof(T));
#pragma unroll
    for (int j = 0; j < W; ++j) result.v[k + j] = pack.v[j];
  }
  return result;
}
template <class T, int V>
__device__ __forceinline__ Values<T, V> load_repeated(const char* from) {
  const T value = *reinterpret_cast<const T*>(from);
  Values<T, V> result;
#pragma unroll
  for (int j = 0; j < V; ++j) result.v[j] = value;
  return result;
}
template <class T, int V>
__device__ __forceinline__ Values<T, V> load_each(const char* from, int64_t stride) {
  Values<T, V> result;
#pragma unroll
  for (int j = 0; j < V; ++j) result.v[j] = *reinterpret_cast<const T*>(from + j * stride);
  return result;
}
template <class T, int V>
__device__ __forceinline__ void store_packed(char* to, const Values<T, V>& values) {
  constexpr int W = kWidth<T, V>;
#pragma unroll
  for (int k = 0; k < V; k += W) {
    Pack<T, W> pack;
#pragma unroll
    for (int j = 0; j < W; ++j) pack.v[j] = values.v[k + j];
    *reinterpret_cast<Pack<T, W>*>(to + k * sizeof(T)) = pack;
  }
}
template <class T, int V>
__device__ __forceinline__ void store_each(char* to, int64_t stride, const Values<T, V>& values) {
#pragma unroll
  for (int j = 0; j < V; ++j) *reinterpret_cast<T*>(to + j * stride) = values.v[j];
}

}  // namespace
