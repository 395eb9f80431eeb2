// Gated activations and rotary position embedding, forward and backward.
#include <cmath>

#include "kernels/cpu/simd/rows.h"
#include "kernels/pointwise.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {
namespace {

constexpr int64_t kRun = 512;  // elements converted together

// Calls f(element offsets along the row, count, row) over runs of every row.
template <class F>
void each_run(const Tensor& t, F&& f) {
  const int64_t rows = t.sizes()[0], n = t.sizes()[1];
  parallel_for(rows, row_grain(n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t i = 0; i < n; i += kRun) f(r, i, std::min(kRun, n - i));
  });
}

template <class T>
T* element(const Tensor& t, int64_t row, int64_t i) {
  return t.data<T>() + row * t.strides()[0] + i;
}

template <class T, template <class> class Value>
void forward(const Tensor& out, const Tensor& gate, const Tensor& up) {
  using C = compute_t<T>;
  each_run(out, [&](int64_t r, int64_t i, int64_t count) {
    C first[kRun], second[kRun], result[kRun];
    const C* g = load(static_cast<const T*>(element<T>(gate, r, i)), first, count);
    const C* u = load(static_cast<const T*>(element<T>(up, r, i)), second, count);
    T* dst = element<T>(out, r, i);
    C* o = target(dst, result);
#pragma GCC ivdep
    for (int64_t j = 0; j < count; ++j) o[j] = Value<C>{}(g[j]) * u[j];
    store(dst, o, count);
  });
}

template <class T, template <class> class Value, template <class> class Slope>
void backward(const Tensor& dgate, const Tensor& dup, const Tensor& grad, const Tensor& gate,
              const Tensor& up) {
  using C = compute_t<T>;
  each_run(dgate, [&](int64_t r, int64_t i, int64_t count) {
    C first[kRun], second[kRun], third[kRun], result[kRun];
    const C* d = load(static_cast<const T*>(element<T>(grad, r, i)), first, count);
    const C* g = load(static_cast<const T*>(element<T>(gate, r, i)), second, count);
    const C* u = load(static_cast<const T*>(element<T>(up, r, i)), third, count);
    T* dst = element<T>(dgate, r, i);
    C* o = target(dst, result);
#pragma GCC ivdep
    for (int64_t j = 0; j < count; ++j) o[j] = Slope<C>{}(d[j] * u[j], g[j]);
    store(dst, o, count);
    dst = element<T>(dup, r, i);
    o = target(dst, result);
#pragma GCC ivdep
    for (int64_t j = 0; j < count; ++j) o[j] = d[j] * Value<C>{}(g[j]);
    store(dst, o, count);
  });
}

// Calls f.operator()<Value, Slope>() for the activation.
template <class F>
void visit_gate(GateKind kind, F&& f) {
  switch (kind) {
    case GateKind::kSilu: return f.template operator()<functor::Silu, functor::SiluBackward>();
    case GateKind::kGelu:
      return f.template operator()<functor::GeluErf, functor::GeluErfBackward>();
    case GateKind::kGeluTanh:
      return f.template operator()<functor::GeluTanh, functor::GeluTanhBackward>();
  }
}

}  // namespace

void gated(const Tensor& out, const Tensor& gate, const Tensor& up, GateKind kind) {
  visit_float("gated activation", out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    visit_gate(kind, [&]<template <class> class Value, template <class> class>() {
      forward<T, Value>(out, gate, up);
    });
  });
}

void gated_backward(const Tensor& dgate, const Tensor& dup, const Tensor& grad, const Tensor& gate,
                    const Tensor& up, GateKind kind) {
  visit_float("gated activation", grad.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    visit_gate(kind, [&]<template <class> class Value, template <class> class Slope>() {
      backward<T, Value, Slope>(dgate, dup, grad, gate, up);
    });
  });
}

namespace {

// One head of one token: pairs turned by the angles whose cosines and sines are given.
template <class T>
void turn(T* out, const T* x, const compute_t<T>* cosine, const compute_t<T>* sine, int64_t half,
          bool interleaved) {
  using C = compute_t<T>;
  const int64_t step = interleaved ? 2 : 1, other = interleaved ? 1 : half;
  for (int64_t i = 0; i < half; ++i) {
    const C u = static_cast<C>(x[i * step]), v = static_cast<C>(x[i * step + other]);
    out[i * step] = static_cast<T>(u * cosine[i] - v * sine[i]);
    out[i * step + other] = static_cast<T>(v * cosine[i] + u * sine[i]);
  }
}

}  // namespace

void rope(const Tensor& out, const Tensor& x, const RopeConfig& config) {
  const int64_t tokens = x.sizes()[config.token_dim], half = x.sizes().back() / 2;
  const int64_t heads = x.numel() / (tokens * 2 * half);
  // The offsets of every head: all dimensions but the tokens and the features.
  std::unique_ptr<int64_t[]> offsets(new int64_t[static_cast<size_t>(2 * heads)]);
  for (int64_t h = 0; h < heads; ++h) {
    int64_t rest = h, from = 0, to = 0;
    for (int d = x.dim() - 2; d >= 0; --d) {
      if (d == config.token_dim) continue;
      from += rest % x.sizes()[d] * x.strides()[d];
      to += rest % x.sizes()[d] * out.strides()[d];
      rest /= x.sizes()[d];
    }
    offsets[2 * h] = from;
    offsets[2 * h + 1] = to;
  }
  visit_float("rope", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    parallel_for(tokens, row_grain(heads * half * 2), [&](int64_t begin, int64_t end) {
      std::unique_ptr<C[]> angles(new C[static_cast<size_t>(2 * half)]);
      C *cosine = angles.get(), *sine = cosine + half;
      for (int64_t t = begin; t < end; ++t) {
        for (int64_t i = 0; i < half; ++i) {
          const double angle =
              static_cast<double>(t + config.offset) *
              std::pow(config.base, static_cast<double>(-i) / static_cast<double>(half));
          cosine[i] = static_cast<C>(std::cos(angle));
          sine[i] = static_cast<C>(config.inverse ? -std::sin(angle) : std::sin(angle));
        }
        for (int64_t h = 0; h < heads; ++h)
          turn(out.data<T>() + offsets[2 * h + 1] + t * out.strides()[config.token_dim],
               x.data<T>() + offsets[2 * h] + t * x.strides()[config.token_dim], cosine, sine, half,
               config.interleaved);
      }
    });
  });
}

}  // namespace vt::cpu::VT_ISA
