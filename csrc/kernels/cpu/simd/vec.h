// Vectors as wide as the instruction set's registers, and the sums and extremes over runs of memory
// built on them. The order of the operations depends on the length of the run only.
#pragma once
#include <cstdint>
#include <type_traits>

#include "base/macros.h"

namespace vt::cpu::VT_ISA {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

#define VT_INLINE static inline __attribute__((always_inline))
#define VT_INLINE_MEMBER __attribute__((always_inline)) static inline

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes), aligned(alignof(T)), may_alias));
  static constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
  // One accumulator a lane.
  typedef double sums __attribute__((vector_size(kLanes * 8)));
};
template <class T>
using vec = typename VectorOf<T>::type;
template <class T>
inline constexpr int kLanes = VectorOf<T>::kLanes;

// Half of a vector, down to two lanes, for joining lanes in a tree.
template <class T, int N>
struct Lanes {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <int N, class T, class V, class Join>
VT_INLINE T join_lanes(const V& v, Join&& join) {
  if constexpr (N == 1) {
    return v[0];
  } else if constexpr (N == 2) {
    return join(static_cast<T>(v[0]), static_cast<T>(v[1]));
  } else {
    using H = typename Lanes<T, N / 2>::type;
    H low, high;
    __builtin_memcpy(&low, &v, sizeof(H));
    __builtin_memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof(H), sizeof(H));
    return join_lanes<N / 2, T>(H(join(low, high)), join);
  }
}

template <class T>
VT_INLINE const vec<T>& at(const T* p) {
  return *reinterpret_cast<const vec<T>*>(p);
}
template <class T>
VT_INLINE vec<T>& at(T* p) {
  return *reinterpret_cast<vec<T>*>(p);
}

inline constexpr int kUnroll = 4;          // vectors in flight
inline constexpr int64_t kFloatRun = 128;  // additions in float before they go on in double

// Sum of f(i) for i in [0, n), where f(i, Vector{}) gives lanes [i, i + lanes) and f(i, T{}) one
// element. Float is added in double after every 128 additions of a lane, which leaves the error
// below that of pairwise summation.
template <class T, class F>
VT_INLINE double sum_of(int64_t n, F&& f) {
  using V = vec<T>;
  using Sums = typename VectorOf<T>::sums;
  constexpr int lanes = kLanes<T>;
  double total = 0;
  int64_t i = 0;
  if (n >= lanes) {
    Sums sums{};
    while (n - i >= kUnroll * lanes) {
      const int64_t left = (n - i) / (kUnroll * lanes);
      const int64_t steps = left < kFloatRun ? left : kFloatRun;
      V a{}, b{}, c{}, d{};
      for (int64_t s = 0; s < steps; ++s, i += kUnroll * lanes) {
        a += f(i, V{});
        b += f(i + lanes, V{});
        c += f(i + 2 * lanes, V{});
        d += f(i + 3 * lanes, V{});
      }
      sums += __builtin_convertvector((a + b) + (c + d), Sums);
    }
    V rest{};
    for (; n - i >= lanes; i += lanes) rest += f(i, V{});
    sums += __builtin_convertvector(rest, Sums);
    total = join_lanes<lanes, double>(
        sums, [](auto a, auto b) __attribute__((always_inline)) { return a + b; });
  }
  for (; i < n; ++i) total += static_cast<double>(f(i, T{}));
  return total;
}

template <class T>
VT_INLINE double sum(const T* x, int64_t n) {
  return sum_of<T>(n, [x](int64_t i, auto kind) __attribute__((always_inline)) {
    if constexpr (std::is_same_v<decltype(kind), T>) return x[i];
    else return vec<T>(at(x + i));
  });
}
// Sum of (x - shift)^2.
template <class T>
VT_INLINE double sum_squares(const T* x, int64_t n, T shift) {
  return sum_of<T>(n, [x, shift](int64_t i, auto kind) __attribute__((always_inline)) {
    if constexpr (std::is_same_v<decltype(kind), T>) {
      return (x[i] - shift) * (x[i] - shift);
    } else {
      const vec<T> v = at(x + i) - shift;
      return v * v;
    }
  });
}
template <class T>
VT_INLINE double dot(const T* x, const T* y, int64_t n) {
  return sum_of<T>(n, [x, y](int64_t i, auto kind) __attribute__((always_inline)) {
    if constexpr (std::is_same_v<decltype(kind), T>) return x[i] * y[i];
    else return at(x + i) * at(y + i);
  });
}

// The larger (smaller) of two, where NaN wins.
template <bool Largest, class T>
VT_INLINE T better(T a, T b) {
  if constexpr (std::is_floating_point_v<T>)
    return (Largest ? (b > a) : (b < a)) | (b != b) ? b : a;
  else return (Largest ? (b > a) : (b < a)) ? b : a;
}
// The same for vectors and for numbers.
template <bool Largest, class T>
struct Better {
  template <class V>
  VT_INLINE_MEMBER V of(V a, V b) {
    if constexpr (std::is_floating_point_v<T>)
      return ((Largest ? (b > a) : (b < a)) | (b != b)) ? b : a;
    else return (Largest ? (b > a) : (b < a)) ? b : a;
  }
};
// n is at least 1. NaN wins.
template <bool Largest, class T>
VT_INLINE T extreme(const T* x, int64_t n) {
  constexpr int lanes = kLanes<T>;
  using B = Better<Largest, T>;
  if (n < lanes) {
    T best = x[0];
    for (int64_t i = 1; i < n; ++i) best = better<Largest>(best, x[i]);
    return best;
  }
  vec<T> a = at(x), b = a, c = a, d = at(x + n - lanes);  // the last ones may be looked at twice
  int64_t i = lanes;
  for (; i + 3 * lanes <= n; i += 3 * lanes) {
    a = B::of(a, vec<T>(at(x + i)));
    b = B::of(b, vec<T>(at(x + i + lanes)));
    c = B::of(c, vec<T>(at(x + i + 2 * lanes)));
  }
  for (; i + lanes <= n; i += lanes) d = B::of(d, vec<T>(at(x + i)));
  const vec<T> all = B::of(B::of(a, b), B::of(c, d));
  return join_lanes<lanes, T>(
      all, [](auto p, auto q) __attribute__((always_inline)) { return B::of(p, q); });
}

}  // namespace vt::cpu::VT_ISA
