// The few names of the standard library that functors use: the run-time compiler has no standard
// headers. Stands in for <cstdint>, <cmath>, <cstring>, <limits> and <type_traits>, and for
// base/scalar.h, whose numbers are read on the host only.
#pragma once

typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef unsigned long uintptr_t;

// The compiler knows these two by their bits only.
#define __builtin_inff() __builtin_bit_cast(float, 0x7f800000u)
#define __builtin_nanf(text) __builtin_bit_cast(float, 0x7fc00000u)

namespace std {

template <class A, class B>
inline constexpr bool is_same_v = false;
template <class A>
inline constexpr bool is_same_v<A, A> = true;
template <class T>
inline constexpr bool is_floating_point_v = is_same_v<T, float> || is_same_v<T, double>;
template <class T>
inline constexpr bool is_signed_v = T(-1) < T(0);

template <class T>
struct make_unsigned;
template <>
struct make_unsigned<uint8_t> {
  using type = uint8_t;
};
template <>
struct make_unsigned<int8_t> {
  using type = uint8_t;
};
template <>
struct make_unsigned<int32_t> {
  using type = uint32_t;
};
template <>
struct make_unsigned<int64_t> {
  using type = uint64_t;
};
template <class T>
using make_unsigned_t = typename make_unsigned<T>::type;

template <class T>
struct numeric_limits {
  static constexpr T max() {
    return T(~T(0)) > T(0) ? T(~T(0)) : T(~(T(1) << (sizeof(T) * 8 - 1)));
  }
  static constexpr T lowest() { return T(~max()); }
};
template <>
struct numeric_limits<bool> {
  static constexpr bool max() { return true; }
  static constexpr bool lowest() { return false; }
};
template <>
struct numeric_limits<float> {
  __device__ static constexpr float infinity() { return __builtin_inff(); }
  __device__ static constexpr float max() { return 3.40282346638528860e+38f; }
  __device__ static constexpr float lowest() { return -max(); }
};
template <>
struct numeric_limits<double> {
  __device__ static constexpr double infinity() {
    return __builtin_bit_cast(double, 0x7ff0000000000000ul);
  }
  __device__ static constexpr double max() { return 1.79769313486231571e+308; }
  __device__ static constexpr double lowest() { return -max(); }
};

}  // namespace std

namespace vt {
class Scalar {
 public:
  template <class T>
  T to() const;
  bool is_none() const;
};
}  // namespace vt
