// Elementwise operators on the CPU: the typed inner loops. Each loop runs over plain arrays; the
// driver (pointwise.cpp) turns strides, broadcasting, 16-bit floats and threads into such arrays.
#pragma once
#include <type_traits>
#include <utility>

#include "kernels/pointwise.h"
#include "kernels/pointwise_types.h"
#include "kernels/types.h"

namespace vt::cpu::VT_ISA {

// in[k] points at n elements of input k, or at one element for the last input of a `scalar` loop.
// out may be an input.
using PointwiseLoop = void (*)(const void* functor, char* out, const char* const* in, int64_t n);

// One call of an elementwise operator, its types erased.
struct PointwiseJob {
  const void* functor;
  PointwiseLoop loop;
  PointwiseLoop scalar_loop;  // the last input is one number; null where inputs < 2
  int inputs;
  int scalar_at;       // or kNoScalar
  const void* scalar;  // the number, in the compute type
  uint8_t
      size[ElementwisePlan::kMaxOperands];  // bytes an element takes in the loop; 0 is the output
  DType half;          // kF16 or kBF16: operands of that type are converted; else kBool
  unsigned converted;  // bit k: operand k has type `half` in memory
};
void run_job(const ElementwisePlan& plan, const PointwiseJob& job);

[[noreturn]] void fail_pointwise_type(DType dtype);
[[noreturn]] void fail_zero_divisor();

template <class Fn>
constexpr unsigned bool_inputs() {
  if constexpr (requires { Fn::kBoolInputs; }) return Fn::kBoolInputs;
  else return 0;
}
// What an element looks like in memory: bool is read as the byte it is, which the compiler can make
// vector code of.
template <class T>
using cell_t = std::conditional_t<std::is_same_v<T, bool>, uint8_t, T>;
template <class Fn, class C, int K>
using input_t = std::conditional_t<((bool_inputs<Fn>() >> K) & 1) != 0, bool, C>;
template <class Fn, class C, int K>
using input_cell_t = cell_t<input_t<Fn, C, K>>;

// Integer division reports a zero divisor through the flag behind the functor.
template <class Fn, class C>
constexpr bool checks_zero() {
  if constexpr (requires { Fn::kDivides; }) return std::is_integral_v<C>;
  else return false;
}
template <class Fn>
struct WithFlag {
  Fn functor;
  mutable bool zero_divisor = false;
};

template <template <class> class F, class C, int Inputs, bool LastIsScalar>
static void pointwise_loop(const void* functor, char* out, const char* const* in, int64_t n) {
  using Fn = F<C>;
  using A = input_t<Fn, C, 0>;
  const Fn f = *static_cast<const Fn*>(functor);
  const auto* a = reinterpret_cast<const cell_t<A>*>(in[0]);
  if constexpr (Inputs == 1) {
    auto* o = reinterpret_cast<cell_t<decltype(f(A()))>*>(out);
    auto loop = [&](auto g) __attribute__((always_inline)) {
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) o[i] = g(static_cast<A>(a[i]));
    };
    if constexpr (requires { f.resolve(loop); }) f.resolve(loop);
    else if constexpr (requires { f.resolve_run(a, n, loop); }) f.resolve_run(a, n, loop);
    else loop(f);
  } else if constexpr (Inputs == 2) {
    using B = input_t<Fn, C, 1>;
    const auto* b = reinterpret_cast<const cell_t<B>*>(in[1]);
    auto* o = reinterpret_cast<cell_t<decltype(f(A(), B()))>*>(out);
    if constexpr (checks_zero<Fn, C>()) {
      bool zero = false;
      for (int64_t i = 0; i < (LastIsScalar ? 1 : n); ++i) zero |= b[i] == 0;
      if (zero)
        __atomic_store_n(&static_cast<const WithFlag<Fn>*>(functor)->zero_divisor, true,
                         __ATOMIC_RELAXED);
    }
    if constexpr (LastIsScalar) {
      const B number = static_cast<B>(*b);
      auto loop = [&](auto g) __attribute__((always_inline)) {
#pragma GCC ivdep
        for (int64_t i = 0; i < n; ++i) o[i] = g(static_cast<A>(a[i]), number);
      };
      if constexpr (requires { f.resolve(loop); }) f.resolve(loop);
      else if constexpr (requires { f.resolve_number(number, loop); }) {
        if (!f.resolve_number(number, loop)) loop(f);
      } else loop(f);
    } else {
      auto loop = [&](auto g) __attribute__((always_inline)) {
#pragma GCC ivdep
        for (int64_t i = 0; i < n; ++i) o[i] = g(static_cast<A>(a[i]), static_cast<B>(b[i]));
      };
      if constexpr (requires { f.resolve(loop); }) f.resolve(loop);
      else loop(f);
    }
  } else {
    static_assert(Inputs == 3);
    using B = input_t<Fn, C, 1>;
    const auto* b = reinterpret_cast<const cell_t<B>*>(in[1]);
    const auto* c = reinterpret_cast<const cell_t<C>*>(in[2]);
    auto* o = reinterpret_cast<cell_t<C>*>(out);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i)
      o[i] = f(static_cast<A>(a[i]), static_cast<B>(b[i]), static_cast<C>(c[i]));
  }
}

template <template <class> class F, class C, int Inputs, int Scalars>
static void run_typed(const ElementwisePlan& plan, DType dtype, const Scalar* params,
                      int scalar_at) {
  using Fn = F<C>;
  constexpr bool checked = checks_zero<Fn, C>();
  const std::conditional_t<checked, WithFlag<Fn>, Fn> functor{Fn(params)};
  const C number = scalar_at == kNoScalar ? C{} : params[Scalars].to<C>();
  PointwiseJob job;
  job.functor = &functor;
  job.loop = pointwise_loop<F, C, Inputs, false>;
  if constexpr (Inputs == 2) job.scalar_loop = pointwise_loop<F, C, 2, true>;
  else job.scalar_loop = nullptr;
  job.inputs = Inputs;
  job.scalar_at = scalar_at;
  job.scalar = &number;
  constexpr unsigned bools = bool_inputs<Fn>();
  for (int k = 0; k < Inputs; ++k) job.size[k + 1] = (bools >> k) & 1 ? 1 : sizeof(C);
  bool out_is_compute = true;
  if constexpr (Inputs == 1) out_is_compute = std::is_same_v<decltype(std::declval<Fn>()(C())), C>;
  if constexpr (Inputs == 2) {
    using Second = input_t<Fn, C, 1>;
    out_is_compute = std::is_same_v<decltype(std::declval<Fn>()(C(), Second())), C>;
  }
  job.size[0] = out_is_compute ? sizeof(C) : 1;
  job.half = is_half(dtype) ? dtype : DType::kBool;
  job.converted =
      is_half(dtype) ? (((1u << Inputs) - 1) & ~bools) << 1 | (out_is_compute ? 1 : 0) : 0;
  run_job(plan, job);
  if constexpr (checked) {
    if (functor.zero_divisor) fail_zero_divisor();
  }
}

// Runs F<C> over `plan` for the types in `Types`; the signature is PointwiseFn's. `Scalars` is how
// many scalars the functor takes: an operand that is a number follows them in `params`.
template <template <class> class F, int Inputs, unsigned Types, int Scalars>
static void run_pointwise(const ElementwisePlan& plan, DType dtype, const Scalar* params,
                          int scalar_at) {
  if constexpr ((Types & kFloatBit) != 0) {
    if (VT_LIKELY(dtype == DType::kF32 || is_half(dtype)))
      return run_typed<F, float, Inputs, Scalars>(plan, dtype, params, scalar_at);
    if (dtype == DType::kF64)
      return run_typed<F, double, Inputs, Scalars>(plan, dtype, params, scalar_at);
  }
  if constexpr ((Types & kIntBit) != 0) {
    if (dtype == DType::kI64)
      return run_typed<F, int64_t, Inputs, Scalars>(plan, dtype, params, scalar_at);
    if (dtype == DType::kI32)
      return run_typed<F, int32_t, Inputs, Scalars>(plan, dtype, params, scalar_at);
    if (dtype == DType::kI8)
      return run_typed<F, int8_t, Inputs, Scalars>(plan, dtype, params, scalar_at);
    if (dtype == DType::kU8)
      return run_typed<F, uint8_t, Inputs, Scalars>(plan, dtype, params, scalar_at);
  }
  if constexpr ((Types & kBoolBit) != 0) {
    if (dtype == DType::kBool)
      return run_typed<F, bool, Inputs, Scalars>(plan, dtype, params, scalar_at);
  }
  fail_pointwise_type(dtype);
}

}  // namespace vt::cpu::VT_ISA
