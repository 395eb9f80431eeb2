// Element types: their ids, sizes, names, promotion, and the one switch that turns an id into a C++
// type.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/half.h"
#include "base/macros.h"

namespace vt {

// Ordered so that promotion among one category is the larger id (F16 + BF16 -> F32 is the one
// exception).
enum class DType : uint8_t { kBool, kU8, kI8, kI32, kI64, kF16, kBF16, kF32, kF64 };
inline constexpr int kDTypeCount = 9;

constexpr size_t item_size(DType t) {
  constexpr uint8_t sizes[kDTypeCount] = {1, 1, 1, 4, 8, 2, 2, 4, 8};
  return sizes[static_cast<int>(t)];
}
constexpr bool is_float(DType t) { return t >= DType::kF16; }
constexpr bool is_half(DType t) { return t == DType::kF16 || t == DType::kBF16; }
constexpr bool is_integer(DType t) { return t >= DType::kU8 && t <= DType::kI64; }

// "float32" as torch spells it, and "f32" as error messages spell it.
std::string_view name(DType t);
std::string_view short_name(DType t);

// torch.promote_types: the smallest type that both convert to.
DType promote(DType a, DType b);

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<bool> {
  static constexpr DType value = DType::kBool;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kU8;
};
template <>
struct DTypeOf<int8_t> {
  static constexpr DType value = DType::kI8;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI64;
};
template <>
struct DTypeOf<Half> {
  static constexpr DType value = DType::kF16;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};

// The type that arithmetic on T happens in: float for the 16-bit floats, T itself otherwise.
template <class T>
struct ComputeOf {
  using type = T;
};
template <>
struct ComputeOf<Half> {
  using type = float;
};
template <>
struct ComputeOf<BFloat16> {
  using type = float;
};
template <class T>
using compute_t = typename ComputeOf<T>::type;

template <class T>
struct TypeTag {
  using type = T;
};

// Calls f(TypeTag<T>{}) with the C++ type of `t`.
template <class F>
decltype(auto) visit_dtype(DType t, F&& f) {
  switch (t) {
    case DType::kBool: return f(TypeTag<bool>{});
    case DType::kU8: return f(TypeTag<uint8_t>{});
    case DType::kI8: return f(TypeTag<int8_t>{});
    case DType::kI32: return f(TypeTag<int32_t>{});
    case DType::kI64: return f(TypeTag<int64_t>{});
    case DType::kF16: return f(TypeTag<Half>{});
    case DType::kBF16: return f(TypeTag<BFloat16>{});
    case DType::kF32: return f(TypeTag<float>{});
    default: return f(TypeTag<double>{});
  }
}

// As visit_dtype, for the four float types only; any other is the caller's error.
template <class F>
decltype(auto) visit_float(const char* op, DType t, F&& f) {
  switch (t) {
    case DType::kF16: return f(TypeTag<Half>{});
    case DType::kBF16: return f(TypeTag<BFloat16>{});
    case DType::kF32: return f(TypeTag<float>{});
    case DType::kF64: return f(TypeTag<double>{});
    default:
      fail(ErrorKind::kRuntime, op, ": not implemented for ", name(t),
           "; convert to a float type first");
  }
}

// As visit_dtype, for the two index types.
template <class F>
decltype(auto) visit_index(const char* op, DType t, F&& f) {
  switch (t) {
    case DType::kI32: return f(TypeTag<int32_t>{});
    case DType::kI64: return f(TypeTag<int64_t>{});
    default:
      fail(ErrorKind::kRuntime, op, ": expected an index tensor of int64 or int32, got ", name(t));
  }
}

}  // namespace vt
