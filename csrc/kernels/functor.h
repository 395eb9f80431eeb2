// What all functors of elementwise operators are made with: wrapping integer arithmetic, the shape
// of a functor without scalars, and the two macros that spell their constructors.
#pragma once
#include <limits>
#include <type_traits>

#include "base/scalar.h"
#include "kernels/math.h"

namespace vt::functor {

// Functors are built on the host only, and inlined: the linker must not share code between
// instruction sets.
#define VT_INIT __attribute__((always_inline))

template <class C>
inline constexpr bool kIsFloat = std::is_floating_point_v<C>;
template <class C>
inline constexpr bool kIsBool = std::is_same_v<C, bool>;

// Integer arithmetic wraps, as PyTorch's does; done unsigned, where C++ defines it.
template <class C>
struct Wrapping {
  using type = std::make_unsigned_t<C>;
};
template <>
struct Wrapping<bool> {
  using type = unsigned;
};
template <>
struct Wrapping<float> {
  using type = float;
};
template <>
struct Wrapping<double> {
  using type = double;
};
template <class C>
using wrapping_t = typename Wrapping<C>::type;

template <class C>
VT_HD C wrap_add(C a, C b) {
  return static_cast<C>(static_cast<wrapping_t<C>>(a) + static_cast<wrapping_t<C>>(b));
}
template <class C>
VT_HD C wrap_sub(C a, C b) {
  return static_cast<C>(static_cast<wrapping_t<C>>(a) - static_cast<wrapping_t<C>>(b));
}
template <class C>
VT_HD C wrap_mul(C a, C b) {
  return static_cast<C>(static_cast<wrapping_t<C>>(a) * static_cast<wrapping_t<C>>(b));
}
template <class C>
VT_HD bool is_nan(C a) {
  if constexpr (kIsFloat<C>) return a != a;
  else return false;
}

// A functor without scalars.
struct Plain {
  Plain() = default;
  VT_INIT explicit Plain(const Scalar*) {}
};
#define VT_PLAIN(Name) \
  Name() = default;    \
  VT_INIT explicit Name(const Scalar* p) : Plain(p) {}

// What a functor makes of its arguments, for a result that is stored as an Out: its `coarse` form
// where that is enough.
template <class Out, class F, class... Arguments>
VT_HD auto value_for(const F& functor, Arguments... arguments) {
  if constexpr (sizeof(Out) == 2 && requires { functor.coarse(arguments...); })
    return functor.coarse(arguments...);
  else return functor(arguments...);
}

}  // namespace vt::functor
