// The sets of element types that an elementwise operator is built for, as the `over` column of
// ops/table names them.
#pragma once
#include "base/dtype.h"

namespace vt {

inline constexpr unsigned kBoolBit = 1, kIntBit = 2, kFloatBit = 4;
inline constexpr unsigned kNumTypes = kIntBit | kFloatBit;             // over: num
inline constexpr unsigned kAllTypes = kBoolBit | kIntBit | kFloatBit;  // over: all
inline constexpr unsigned kIntTypes = kBoolBit | kIntBit;              // over: int
inline constexpr unsigned kFloatTypes = kFloatBit;                     // over: float

constexpr bool covers(unsigned types, DType t) {
  return (types & (is_float(t) ? kFloatBit : t == DType::kBool ? kBoolBit : kIntBit)) != 0;
}

}  // namespace vt
