// What the compiler needs to know of each elementwise functor: its name in generated source, its
// operands, and how its object is built on the host for a kernel's parameters.
#pragma once
#include <cstring>
#include <type_traits>

#include "kernels/pointwise.h"
#include "kernels/pointwise_types.h"
#include "kernels/table.h"

namespace vt::fuse {

inline constexpr size_t kMaxFunctorBytes = 32;

struct FunctorFacts {
  const char* op;       // "add", as reports say it
  const char* functor;  // "Add", a template over the type computed in
  int inputs, scalars;
  unsigned bool_inputs;  // bit i: input i is bool whatever the type
  bool predicate;        // the result is bool
  // Builds the functor for elements of `dtype` at `bytes`; returns its size, 0 where it is empty.
  size_t (*build)(DType dtype, const Scalar* params, void* bytes);
};

const FunctorFacts& functor_facts(PointwiseOp op);  // generated

namespace detail {

template <template <class> class Functor, unsigned kTypes>
size_t build_functor(DType dtype, const Scalar* params, void* bytes) {
  return visit_dtype(dtype, [&]<class T>(TypeTag<T>) -> size_t {
    if constexpr (covers(kTypes, DTypeOf<T>::value)) {
      using F = Functor<compute_t<T>>;
      static_assert(sizeof(F) <= kMaxFunctorBytes && std::is_trivially_copyable_v<F>);
      if constexpr (std::is_empty_v<F>) {
        return 0;
      } else {
        const F functor(params);
        std::memcpy(bytes, &functor, sizeof functor);
        return sizeof functor;
      }
    } else {
      fail(ErrorKind::kRuntime, "fuse: an elementwise operator does not take ", name(dtype));
    }
  });
}

template <template <class> class Functor, class C>
constexpr unsigned bool_inputs() {
  if constexpr (requires { Functor<C>::kBoolInputs; }) return Functor<C>::kBoolInputs;
  else return 0;
}

template <template <class> class Functor, class C, unsigned kBools, size_t... I>
constexpr bool is_predicate(std::index_sequence<I...>) {
  return std::is_same_v<
      bool, decltype(std::declval<const Functor<C>&>()(
                std::declval<std::conditional_t<(kBools >> I & 1) != 0, bool, C>>()...))>;
}

template <template <class> class Functor, int kInputs, unsigned kTypes>
constexpr FunctorFacts facts(const char* op, const char* functor, int scalars) {
  using C = std::conditional_t<covers(kTypes, DType::kF32), float, int32_t>;
  constexpr unsigned kBools = bool_inputs<Functor, C>();
  return {op,
          functor,
          kInputs,
          scalars,
          kBools,
          is_predicate<Functor, C, kBools>(std::make_index_sequence<kInputs>{}),
          &build_functor<Functor, kTypes>};
}

}  // namespace detail
}  // namespace vt::fuse
