// What each elementwise operator computes on one element: one functor a name in
// ops/table/pointwise.yaml, shared by CPU and CUDA. C is the type computed in: bool, an integer,
// float (also for the 16-bit floats) or double. A functor is built from the operator's scalars in
// the order of its signature, and called with its tensors in that order. Comparisons return bool,
// which makes the output bool. Bits of kBoolInputs mark inputs that are bool whatever C is.
#pragma once
#include "kernels/functor.h"
#include "kernels/pointwise_unary.h"

namespace vt::functor {

template <class C>
struct Add {
  C alpha;
  VT_INIT explicit Add(const Scalar* p) : alpha(p[0].to<C>()) {}
  VT_HD C operator()(C a, C b) const {
    if constexpr (kIsBool<C>) return a | (alpha & b);
    else return wrap_add(a, wrap_mul(alpha, b));
  }
};
template <class C>
struct Sub {
  C alpha;
  VT_INIT explicit Sub(const Scalar* p) : alpha(p[0].to<C>()) {}
  VT_HD C operator()(C a, C b) const { return wrap_sub(a, wrap_mul(alpha, b)); }
};
template <class C>
struct RSub {
  C alpha;
  VT_INIT explicit RSub(const Scalar* p) : alpha(p[0].to<C>()) {}
  VT_HD C operator()(C a, C b) const { return wrap_sub(b, wrap_mul(alpha, a)); }
};
template <class C>
struct Mul : Plain {
  VT_PLAIN(Mul)
  VT_HD C operator()(C a, C b) const {
    if constexpr (kIsBool<C>) return a & b;
    else return wrap_mul(a, b);
  }
};
template <class C>
struct Div : Plain {
  VT_PLAIN(Div)
  VT_HD C operator()(C a, C b) const { return a / b; }
};
template <class C>
struct RDiv {
  C other;
  VT_INIT explicit RDiv(const Scalar* p) : other(p[0].to<C>()) {}
  VT_HD C operator()(C a) const { return other / a; }
};

// Rounded towards minus infinity. Integers: 0 for a zero divisor, which the CPU reports as an
// error.
template <class C>
struct FloorDiv : Plain {
  VT_PLAIN(FloorDiv)
  static constexpr bool kDivides = true;
  VT_HD C operator()(C a, C b) const {
    if constexpr (kIsFloat<C>) {
      const C modulo = math::fmod(a, b);
      C quotient = (a - modulo) / b;
      if (modulo != 0 && (b < 0) != (modulo < 0)) quotient -= 1;
      C result = math::floor(quotient);
      if (quotient - result > C(0.5)) result += 1;
      result = quotient == 0 ? math::copysign(C(0), a / b) : result;
      return b == 0 ? a / b : result;
    } else if constexpr (std::is_signed_v<C>) {
      if (b == 0) return 0;
      if (b == -1) return wrap_sub(C(0), a);  // the one quotient that overflows
      const C quotient = a / b;
      return (a % b != 0 && (a < 0) != (b < 0)) ? quotient - 1 : quotient;
    } else {
      return b == 0 ? 0 : a / b;
    }
  }
};
// With the sign of the divisor, as Python's %.
template <class C>
struct Remainder : Plain {
  VT_PLAIN(Remainder)
  static constexpr bool kDivides = true;
  VT_HD C operator()(C a, C b) const {
    if constexpr (kIsFloat<C>) {
      const C modulo = math::fmod(a, b);
      return modulo != 0 && (b < 0) != (modulo < 0) ? modulo + b : modulo;
    } else if constexpr (std::is_signed_v<C>) {
      if (b == 0 || b == -1) return 0;
      const C modulo = a % b;
      return modulo != 0 && (b < 0) != (modulo < 0) ? modulo + b : modulo;
    } else {
      return b == 0 ? 0 : a % b;
    }
  }
};

template <class C>
VT_HD C power(C base, C exponent) {
  if constexpr (kIsFloat<C>) {
    return math::pow(base, exponent);
  } else {
    if constexpr (std::is_signed_v<C>) {
      if (exponent < 0) {  // 1 / base^-exponent, rounded towards zero
        if (base == 1) return 1;
        if (base == -1) return exponent % 2 == 0 ? 1 : -1;
        return 0;
      }
    }
    C result = 1;
    for (; exponent != 0; exponent /= 2) {
      if (exponent % 2 != 0) result = wrap_mul(result, base);
      base = wrap_mul(base, base);
    }
    return result;
  }
}
template <class C>
struct Pow : Plain {
  VT_PLAIN(Pow)
  VT_HD C operator()(C a, C b) const { return power(a, b); }
  // The exponents that people write, as PyTorch computes them. False where there is no shorter way.
  template <class Loop>
  VT_INIT static bool resolve_number(C exponent, Loop&& loop) {
    if constexpr (kIsFloat<C>) {
      if (exponent == C(2)) return loop([](C a, C) { return a * a; }), true;
      if (exponent == C(3)) return loop([](C a, C) { return a * a * a; }), true;
      if (exponent == C(0.5)) return loop([](C a, C) { return math::sqrt(a); }), true;
      if (exponent == C(-0.5)) return loop([](C a, C) { return math::rsqrt(a); }), true;
      if (exponent == C(-1)) return loop([](C a, C) { return C(1) / a; }), true;
      if (exponent == C(-2)) return loop([](C a, C) { return C(1) / (a * a); }), true;
    }
    return false;
  }
};
template <class C>
struct RPow {
  C base;
  VT_INIT explicit RPow(const Scalar* p) : base(p[0].to<C>()) {}
  VT_HD C operator()(C a) const { return power(base, a); }
};

template <class C>
struct Maximum : Plain {
  VT_PLAIN(Maximum)
  VT_HD C operator()(C a, C b) const {
    if constexpr (kIsBool<C>) return a | b;
    else return (a > b) | is_nan(a) ? a : b;
  }
};
template <class C>
struct Minimum : Plain {
  VT_PLAIN(Minimum)
  VT_HD C operator()(C a, C b) const {
    if constexpr (kIsBool<C>) return a & b;
    else return (a < b) | is_nan(a) ? a : b;
  }
};

// Limits of clamp; an open end is the type's own limit, a number outside an integer type is moved
// to its end.
template <class C>
struct Limits {
  C low, high;
  VT_INIT static C bound(const Scalar& s, bool upper) {
    using L = std::numeric_limits<C>;
    if constexpr (kIsFloat<C>) {
      return s.is_none() ? (upper ? L::infinity() : -L::infinity()) : s.to<C>();
    } else {
      if (s.is_none()) return upper ? L::max() : L::lowest();
      const double value = s.to<double>();
      if (value <= static_cast<double>(L::lowest())) return L::lowest();
      return value >= static_cast<double>(L::max()) ? L::max() : s.to<C>();
    }
  }
  VT_INIT explicit Limits(const Scalar* p) : low(bound(p[0], false)), high(bound(p[1], true)) {}
};
template <class C>
struct Clamp {
  Limits<C> limits;
  VT_INIT explicit Clamp(const Scalar* p) : limits(p) {}
  VT_HD C operator()(C a) const {
    C result = (a < limits.low) | is_nan(limits.low) ? limits.low : a;
    result = (result > limits.high) | is_nan(limits.high) ? limits.high : result;
    return is_nan(a) ? a : result;
  }
};
template <class C>
struct ClampBackward {
  Limits<C> limits;
  VT_INIT explicit ClampBackward(const Scalar* p) : limits(p) {}
  VT_HD C operator()(C grad, C a) const {
    return (a >= limits.low) & (a <= limits.high) ? grad : C(0);
  }
};

#define VT_PREDICATE2(Name, expression)                          \
  template <class C>                                             \
  struct Name : Plain {                                          \
    VT_PLAIN(Name)                                               \
    VT_HD bool operator()(C a, C b) const { return expression; } \
  };
#define VT_PREDICATE1(Name, expression)                     \
  template <class C>                                        \
  struct Name : Plain {                                     \
    VT_PLAIN(Name)                                          \
    VT_HD bool operator()(C a) const { return expression; } \
  };
VT_PREDICATE2(Eq, a == b)
VT_PREDICATE2(Ne, a != b)
VT_PREDICATE2(Lt, a < b)
VT_PREDICATE2(Le, a <= b)
VT_PREDICATE2(Gt, a > b)
VT_PREDICATE2(Ge, a >= b)
VT_PREDICATE2(LogicalAnd, (a != C(0)) & (b != C(0)))
VT_PREDICATE2(LogicalOr, (a != C(0)) | (b != C(0)))
VT_PREDICATE1(LogicalNot, a == C(0))
VT_PREDICATE1(IsNan, is_nan(a))
#undef VT_PREDICATE1
#undef VT_PREDICATE2
template <class C>
struct IsInf : Plain {
  VT_PLAIN(IsInf)
  VT_HD bool operator()(C a) const {
    if constexpr (kIsFloat<C>) return math::abs(a) == std::numeric_limits<C>::infinity();
    else return false;
  }
};
template <class C>
struct IsFinite : Plain {
  VT_PLAIN(IsFinite)
  VT_HD bool operator()(C a) const {
    if constexpr (kIsFloat<C>) return math::abs(a) < std::numeric_limits<C>::infinity();
    else return true;
  }
};

template <class C>
struct BitAnd : Plain {
  VT_PLAIN(BitAnd)
  VT_HD C operator()(C a, C b) const { return a & b; }
};
template <class C>
struct BitOr : Plain {
  VT_PLAIN(BitOr)
  VT_HD C operator()(C a, C b) const { return a | b; }
};
template <class C>
struct BitXor : Plain {
  VT_PLAIN(BitXor)
  VT_HD C operator()(C a, C b) const { return a ^ b; }
};
template <class C>
struct BitNot : Plain {
  VT_PLAIN(BitNot)
  VT_HD C operator()(C a) const {
    if constexpr (kIsBool<C>) return !a;
    else return ~a;
  }
};

template <class C>
struct Where : Plain {
  VT_PLAIN(Where)
  static constexpr unsigned kBoolInputs = 1;
  VT_HD C operator()(bool condition, C a, C b) const { return condition ? a : b; }
};
template <class C>
struct MaskedFill {
  C value;
  static constexpr unsigned kBoolInputs = 2;
  VT_INIT explicit MaskedFill(const Scalar* p) : value(p[0].to<C>()) {}
  VT_HD C operator()(C a, bool mask) const { return mask ? value : a; }
};
template <class C>
struct AddCMul {
  C value;
  VT_INIT explicit AddCMul(const Scalar* p) : value(p[0].to<C>()) {}
  VT_HD C operator()(C a, C b, C c) const { return wrap_add(a, wrap_mul(wrap_mul(value, b), c)); }
};
template <class C>
struct AddCDiv {
  C value;
  VT_INIT explicit AddCDiv(const Scalar* p) : value(p[0].to<C>()) {}
  VT_HD C operator()(C a, C b, C c) const { return a + value * b / c; }
};
// From the nearer end, so that weights 0 and 1 give the ends exactly.
template <class C>
struct Lerp {
  C weight;
  VT_INIT explicit Lerp(const Scalar* p) : weight(p[0].to<C>()) {}
  VT_HD C operator()(C a, C b) const {
    return math::abs(weight) < C(0.5) ? a + weight * (b - a) : b - (b - a) * (C(1) - weight);
  }
};

}  // namespace vt::functor
