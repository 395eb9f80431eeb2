// Names and promotion of element types.
#include "base/dtype.h"

namespace vt {

std::string_view name(DType t) {
  constexpr std::string_view names[kDTypeCount] = {
      "bool", "uint8", "int8", "int32", "int64", "float16", "bfloat16", "float32", "float64"};
  return names[static_cast<int>(t)];
}

std::string_view short_name(DType t) {
  constexpr std::string_view names[kDTypeCount] = {"bool", "u8",   "i8",  "i32", "i64",
                                                   "f16",  "bf16", "f32", "f64"};
  return names[static_cast<int>(t)];
}

DType promote(DType a, DType b) {
  if (a == b) return a;
  if (is_half(a) && is_half(b)) return DType::kF32;
  // uint8 and int8 share no 8-bit type; torch answers int16, the next one this runtime has is
  // int32.
  if ((a == DType::kU8 && b == DType::kI8) || (a == DType::kI8 && b == DType::kU8))
    return DType::kI32;
  return a > b ? a : b;
}

}  // namespace vt
