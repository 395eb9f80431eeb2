// A number as Python hands it over: bool, int64 or double, with its kind. Passed by value to
// kernels.
#pragma once
#include <cstdint>
#include <ostream>

#include "base/dtype.h"

namespace vt {

class Scalar {
 public:
  enum class Kind : uint8_t { kBool, kInt, kFloat, kNone };

  static Scalar none() {
    Scalar s;
    s.kind_ = Kind::kNone;
    return s;
  }

  Scalar() : Scalar(int64_t{0}) {}
  Scalar(bool value) : kind_(Kind::kBool) { payload_.i = value; }
  Scalar(int value) : Scalar(static_cast<int64_t>(value)) {}
  Scalar(int64_t value) : kind_(Kind::kInt) { payload_.i = value; }
  Scalar(double value) : kind_(Kind::kFloat) { payload_.d = value; }
  Scalar(float value) : Scalar(static_cast<double>(value)) {}

  Kind kind() const { return kind_; }
  bool is_none() const { return kind_ == Kind::kNone; }  // an optional number that was not given
  bool is_float() const { return kind_ == Kind::kFloat; }
  bool is_bool() const { return kind_ == Kind::kBool; }

  template <class T>
  T to() const {
    if constexpr (std::is_same_v<T, bool>) return is_float() ? payload_.d != 0 : payload_.i != 0;
    else if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>)
      return T(to<float>());
    else return is_float() ? static_cast<T>(payload_.d) : static_cast<T>(payload_.i);
  }
  // A float scalar makes an integer tensor float32; an int scalar makes a bool tensor int64;
  // otherwise the tensor decides.
  DType promoted(DType tensor) const {
    if (is_float() && !vt::is_float(tensor)) return DType::kF32;
    if (kind_ == Kind::kInt && tensor == DType::kBool) return DType::kI64;
    return tensor;
  }
  Scalar operator-() const { return is_float() ? Scalar(-payload_.d) : Scalar(-payload_.i); }
  bool equals(int64_t value) const {
    return is_float() ? payload_.d == static_cast<double>(value) : payload_.i == value;
  }

 private:
  Kind kind_;
  union {
    double d;
    int64_t i;
  } payload_;
};

inline std::ostream& operator<<(std::ostream& out, Scalar s) {
  return s.is_float() ? out << s.to<double>() : out << s.to<int64_t>();
}

}  // namespace vt
