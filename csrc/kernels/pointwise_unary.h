// The functors of one tensor, and of their gradients: signs, rounding, exponentials, activations.
// See pointwise.h for what a functor is.
#pragma once
#include "kernels/functor.h"

namespace vt::functor {

template <class C>
struct Neg : Plain {
  VT_PLAIN(Neg)
  VT_HD C operator()(C a) const {
    if constexpr (kIsFloat<C>) return -a;
    else return wrap_sub(C(0), a);
  }
};
template <class C>
struct Abs : Plain {
  VT_PLAIN(Abs)
  VT_HD C operator()(C a) const {
    if constexpr (kIsFloat<C>) return math::abs(a);
    else if constexpr (std::is_signed_v<C>) return a < 0 ? wrap_sub(C(0), a) : a;
    else return a;
  }
};
template <class C>
struct Sign : Plain {
  VT_PLAIN(Sign)
  VT_HD C operator()(C a) const { return static_cast<C>((a > C(0)) - (a < C(0))); }
};
template <class C>
struct Square : Plain {
  VT_PLAIN(Square)
  VT_HD C operator()(C a) const { return wrap_mul(a, a); }
};

#define VT_UNARY(Name, expression)                       \
  template <class C>                                     \
  struct Name : Plain {                                  \
    VT_PLAIN(Name)                                       \
    VT_HD C operator()(C a) const { return expression; } \
  };
VT_UNARY(Floor, math::floor(a))
VT_UNARY(Ceil, math::ceil(a))
VT_UNARY(Round, math::rint(a))
VT_UNARY(Trunc, math::trunc(a))
VT_UNARY(Exp, math::exp(a))
VT_UNARY(Expm1, math::expm1(a))
VT_UNARY(Log, math::log(a))
VT_UNARY(Log2, math::log2(a))
VT_UNARY(Log1p, math::log1p(a))
VT_UNARY(Sqrt, math::sqrt(a))
VT_UNARY(Rsqrt, math::rsqrt(a))
VT_UNARY(Reciprocal, C(1) / a)
VT_UNARY(Tanh, math::tanh(a))
VT_UNARY(Erf, math::erf(a))
VT_UNARY(Sigmoid, math::sigmoid(a))
VT_UNARY(Relu, a <= C(0) ? C(0) : a)  // NaN stays
#undef VT_UNARY

// `coarse` is for results of 16 bits, see value_for(). On the host it is the same.
template <class C>
struct Silu : Plain {
  VT_PLAIN(Silu)
  VT_HD C operator()(C a) const { return a * math::sigmoid(a); }
  VT_HD C coarse(C a) const { return a * math::coarse_sigmoid(a); }
};

// Sine and cosine. A run of floats of which none is huge takes a form that is vector code on the
// host.
template <class C, unsigned Quarter>
struct SinBelowLimit {
  VT_HD C operator()(C a) const { return math::host::sin_quarter(a, Quarter); }
};
template <class C, class Below, class Self, class Loop>
VT_INIT inline void resolve_sine(const Self& self, const C* in, int64_t n, Loop&& loop) {
  if constexpr (std::is_same_v<C, float>) {
    unsigned huge = 0;
    for (int64_t i = 0; i < n; ++i) huge |= !(math::abs(in[i]) < math::host::kSinLimit);
    if (!huge) return loop(Below{});
  }
  loop(self);
}
template <class C>
struct Sin : Plain {
  VT_PLAIN(Sin)
  VT_HD C operator()(C a) const { return math::sin(a); }
  template <class Loop>
  VT_INIT void resolve_run(const C* in, int64_t n, Loop&& loop) const {
    resolve_sine<C, SinBelowLimit<C, 0>>(*this, in, n, loop);
  }
};
template <class C>
struct Cos : Plain {
  VT_PLAIN(Cos)
  VT_HD C operator()(C a) const { return math::cos(a); }
  template <class Loop>
  VT_INIT void resolve_run(const C* in, int64_t n, Loop&& loop) const {
    resolve_sine<C, SinBelowLimit<C, 1>>(*this, in, n, loop);
  }
};

template <class C>
struct TanhBackward : Plain {
  VT_PLAIN(TanhBackward)
  VT_HD C operator()(C grad, C output) const { return grad * (C(1) - output * output); }
};
template <class C>
struct SigmoidBackward : Plain {
  VT_PLAIN(SigmoidBackward)
  VT_HD C operator()(C grad, C output) const { return grad * (C(1) - output) * output; }
};
template <class C>
struct ReluBackward : Plain {
  VT_PLAIN(ReluBackward)
  VT_HD C operator()(C grad, C output) const { return output <= C(0) ? C(0) : grad; }
};
template <class C>
struct SiluBackward : Plain {
  VT_PLAIN(SiluBackward)
  VT_HD C operator()(C grad, C a) const {
    const C s = math::sigmoid(a);
    return grad * s * (C(1) + a * (C(1) - s));
  }
};

// Hendrycks and Gimpel, "Gaussian error linear units" (2016): x Phi(x), or its tanh approximation,
// in which (1 + tanh(u)) / 2 is sigmoid(2 u): one exponential, and no loss where tanh is near -1.
inline constexpr double kInvSqrt2Pi = 0.39894228040143267794;
inline constexpr double kSqrt2OverPi = 0.79788456080286535588;
inline constexpr double kGeluCubic = 0.044715;
template <class C>
struct GeluErf {
  VT_HD C operator()(C a) const { return a * math::normal(a).cdf; }
};
template <class C>
struct GeluTanh {
  VT_HD C operator()(C a) const {
    return a * math::sigmoid(C(2 * kSqrt2OverPi) * (a + C(kGeluCubic) * (a * a * a)));
  }
  VT_HD C coarse(C a) const {
    return a * math::coarse_sigmoid(
                   a * (C(2 * kSqrt2OverPi) + C(2 * kSqrt2OverPi * kGeluCubic) * (a * a)));
  }
};
template <class C>
struct GeluErfBackward {
  VT_HD C operator()(C grad, C a) const {
    const auto [cdf, bell] = math::normal(a);
    return grad * (cdf + a * (C(kInvSqrt2Pi) * bell));
  }
};
// The slope of GELU's tanh form, and a gradient times it.
template <class C>
struct GeluSlope : Plain {
  VT_PLAIN(GeluSlope)
  VT_HD C operator()(C a) const {
    const C square = a * a;
    const C s = math::sigmoid(C(2 * kSqrt2OverPi) * (a + C(kGeluCubic) * (square * a)));
    const C slope = C(2 * kSqrt2OverPi) * (C(1) + C(3 * kGeluCubic) * square);
    return s + a * (s * (C(1) - s)) * slope;
  }
};
template <class C>
struct GeluTimes : Plain {
  VT_PLAIN(GeluTimes)
  VT_HD C operator()(C grad, C slope) const { return grad * slope; }
};
template <class C>
struct GeluTanhBackward {
  VT_HD C operator()(C grad, C a) const { return grad * GeluSlope<C>{}(a); }
};
// Loops call `resolve` once to get the formula, where a choice in the loop would keep it from being
// vector code.
template <class C>
struct Gelu {
  bool tanh_form;
  VT_INIT explicit Gelu(const Scalar* p) : tanh_form(p[0].to<bool>()) {}
  VT_HD C operator()(C a) const { return tanh_form ? GeluTanh<C>{}(a) : GeluErf<C>{}(a); }
  VT_HD C coarse(C a) const { return tanh_form ? GeluTanh<C>{}.coarse(a) : GeluErf<C>{}(a); }
  template <class Loop>
  VT_HD void resolve(Loop&& loop) const {
    tanh_form ? loop(GeluTanh<C>{}) : loop(GeluErf<C>{});
  }
};
template <class C>
struct GeluBackward {
  bool tanh_form;
  VT_INIT explicit GeluBackward(const Scalar* p) : tanh_form(p[0].to<bool>()) {}
  VT_HD C operator()(C grad, C a) const {
    return tanh_form ? GeluTanhBackward<C>{}(grad, a) : GeluErfBackward<C>{}(grad, a);
  }
  template <class Loop>
  VT_HD void resolve(Loop&& loop) const {
    tanh_form ? loop(GeluTanhBackward<C>{}) : loop(GeluErfBackward<C>{});
  }
};

}  // namespace vt::functor
