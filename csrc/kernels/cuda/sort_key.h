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
  // The float of that key, which is not NaN's.
  __device__ static float number(Key key) {
    const Key bits = (key & kSign) ? key ^ kSign : ~key & kMask;
    T value;
    memcpy(&value, &bits, sizeof(T));
    return convert<float>(value);
  }
};

}  // namespace vt::cuda
