// The order of values as an order of unsigned numbers.
#pragma once
#include "kernels/cuda/launch.h"

namespace vt::cuda {

// The number whose order as an unsigned integer is the order of the value: NaN last, both zeros
// equal.
template <class T>
struct SortKey {
  static constexpr int kBits = sizeof(T) * 8;
  using Key = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  static constexpr Key kMask =
      sizeof(T) >= 4 ? ~Key(0) : static_cast<Key>((uint64_t{1} << kBits) - 1);
  [[maybe_unused]] static constexpr Key kSign = Key(1) << (kBits - 1);

  __device__ static Key of(T value) {
    using Bits = std::conditional_t<
        sizeof(T) == 1, uint8_t,
        std::conditional_t<sizeof(T) == 2, uint16_t,
                           std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>>;
    Bits raw;
    memcpy(&raw, &value, sizeof(T));
    auto bits = static_cast<Key>(raw);
    if constexpr (is_float(DTypeOf<T>::value)) {
      const auto number = static_cast<compute_t<T>>(value);
      if (number != number) return kMask;
      if (number == 0) bits = 0;
      return (bits & kSign) ? ~bits & kMask : bits | kSign;
    } else if constexpr (std::is_signed_v<T>) {
      return bits ^ kSign;
    } else {
      return bits;
    }
  }
  // Does every value of that key have the same bits? Not NaNs and zeros.
  __device__ static bool is_exact(Key key) {
    return !is_float(DTypeOf<T>::value) || (key != kMask && key != kSign);
  }
  // The value of such a key.
  __device__ static T value(Key key) {
    if constexpr (is_float(DTypeOf<T>::value)) key = (key & kSign) ? key ^ kSign : ~key & kMask;
    else if constexpr (std::is_signed_v<T>) key ^= kSign;
    T value;
    memcpy(&value, &key, sizeof(T));
    return value;
  }
  // The float of that key, which is not NaN's.
  __device__ static float number(Key key) { return convert<float>(value(key)); }
};

}  // namespace vt::cuda
