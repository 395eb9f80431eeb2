// Gated activations, activation(gate) * up: swiglu and geglu, forward and both gradients in one
// pass. The two halves may lie side by side in one tensor.
#include "kernels/cuda/packs.h"
#include "kernels/cuda/strided.h"
#include "kernels/pointwise.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

// Matrices of `columns` packs a row, whose rows are `pitch` elements apart.
struct Pitched {
  FastDivisor columns;
  uint32_t packs;
  // The first element of a pack.
  template <int V>
  __device__ __forceinline__ int64_t at(uint32_t pack, int64_t pitch) const {
    const uint32_t row = columns.divide(pack);
    return row * pitch + int64_t{pack - row * columns.divisor} * V;
  }
};

template <class T>
struct GatedOperands {
  T *out, *dgate, *dup;  // out: forward; the others: backward
  const T *grad, *gate, *up;
  int64_t out_pitch, dgate_pitch, dup_pitch, grad_pitch, gate_pitch, up_pitch;
};

template <class T, int V, template <class> class Value>
__global__ void __launch_bounds__(kThreads) gated_kernel(GatedOperands<T> a, Pitched shape) {
  await_earlier();
  using C = compute_t<T>;
  const uint32_t pack = blockIdx.x * kThreads + threadIdx.x;
  if (pack >= shape.packs) return;
  const auto gate = *reinterpret_cast<const Pack<T, V>*>(a.gate + shape.at<V>(pack, a.gate_pitch));
  const auto up = *reinterpret_cast<const Pack<T, V>*>(a.up + shape.at<V>(pack, a.up_pitch));
  const Pack<C, V> gates = widen<C>(gate);
  Pack<C, V> out = widen<C>(up);
#pragma unroll
  for (int j = 0; j < V; ++j) out.v[j] *= Value<C>{}(gates.v[j]);
  *reinterpret_cast<Pack<T, V>*>(a.out + shape.at<V>(pack, a.out_pitch)) = narrow<T>(out);
}

template <class T, int V, template <class> class Value, template <class> class Slope>
__global__ void __launch_bounds__(kThreads)
    gated_backward_kernel(GatedOperands<T> a, Pitched shape) {
  await_earlier();
  using C = compute_t<T>;
  const uint32_t pack = blockIdx.x * kThreads + threadIdx.x;
  if (pack >= shape.packs) return;
  const auto grad = *reinterpret_cast<const Pack<T, V>*>(a.grad + shape.at<V>(pack, a.grad_pitch));
  const auto gate = *reinterpret_cast<const Pack<T, V>*>(a.gate + shape.at<V>(pack, a.gate_pitch));
  const auto up = *reinterpret_cast<const Pack<T, V>*>(a.up + shape.at<V>(pack, a.up_pitch));
  const Pack<C, V> grads = widen<C>(grad), gates = widen<C>(gate), ups = widen<C>(up);
  Pack<C, V> dgate, dup;
#pragma unroll
  for (int j = 0; j < V; ++j) {
    dgate.v[j] = Slope<C>{}(grads.v[j] * ups.v[j], gates.v[j]);
    dup.v[j] = grads.v[j] * Value<C>{}(gates.v[j]);
  }
  *reinterpret_cast<Pack<T, V>*>(a.dgate + shape.at<V>(pack, a.dgate_pitch)) = narrow<T>(dgate);
  *reinterpret_cast<Pack<T, V>*>(a.dup + shape.at<V>(pack, a.dup_pitch)) = narrow<T>(dup);
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

// Calls f(integral_constant<int, elements a pack>, shape) for matrices of one shape, whose rows may
// be apart.
template <class T, class F>
void visit_packs(std::initializer_list<const Tensor*> tensors, F&& f) {
  constexpr int V = 16 / sizeof(T);
  const Dims& sizes = (*tensors.begin())->sizes();
  int64_t rows = sizes[0], columns = sizes[1];
  bool packed = true, joined = true;
  for (const Tensor* t : tensors) {
    packed &= columns % V == 0 && t->strides()[0] % V == 0 && is_aligned(t->data(), 16);
    joined &= t->strides()[0] == columns;
  }
  if (joined) {  // one long row
    packed = (rows * columns) % V == 0;
    for (const Tensor* t : tensors) packed &= is_aligned(t->data(), 16);
    columns *= rows;
    rows = 1;
  }
  const int64_t per_row = packed ? columns / V : columns;
  VT_CHECK(rows * per_row < std::numeric_limits<int32_t>::max(), kRuntime,
           "gated activation: ", **tensors.begin(), " has too many elements for one call");
  const Pitched shape{FastDivisor(static_cast<uint32_t>(per_row)),
                      static_cast<uint32_t>(rows * per_row)};
  if (packed) f(std::integral_constant<int, V>{}, shape);
  else f(std::integral_constant<int, 1>{}, shape);
}

int64_t pitch(const Tensor& t) { return t.strides()[0]; }

}  // namespace

void gated(const Tensor& out, const Tensor& gate, const Tensor& up, GateKind kind) {
  const Queue queue("gated activation", out.device());
  visit_float("gated activation", out.dtype(), [&]<class T>(TypeTag<T>) {
    GatedOperands<T> a{};
    a.out = out.data<T>(), a.out_pitch = pitch(out);
    a.gate = gate.data<T>(), a.gate_pitch = pitch(gate);
    a.up = up.data<T>(), a.up_pitch = pitch(up);
    visit_packs<T>({&out, &gate, &up}, [&]<int V>(std::integral_constant<int, V>, Pitched shape) {
      visit_gate(kind, [&]<template <class> class Value, template <class> class>() {
        queue.launch_early(&gated_kernel<T, V, Value>, ceil_div(shape.packs, kThreads), kThreads, a,
                           shape);
      });
    });
  });
}

void gated_backward(const Tensor& dgate, const Tensor& dup, const Tensor& grad, const Tensor& gate,
                    const Tensor& up, GateKind kind) {
  const Queue queue("gated activation backward", grad.device());
  visit_float("gated activation", grad.dtype(), [&]<class T>(TypeTag<T>) {
    GatedOperands<T> a{};
    a.dgate = dgate.data<T>(), a.dgate_pitch = pitch(dgate);
    a.dup = dup.data<T>(), a.dup_pitch = pitch(dup);
    a.grad = grad.data<T>(), a.grad_pitch = pitch(grad);
    a.gate = gate.data<T>(), a.gate_pitch = pitch(gate);
    a.up = up.data<T>(), a.up_pitch = pitch(up);
    visit_packs<T>({&dgate, &dup, &grad, &gate, &up}, [&]<int V>(std::integral_constant<int, V>,
                                                                 Pitched shape) {
      visit_gate(kind, [&]<template <class> class Value, template <class> class Slope>() {
        queue.launch_early(&gated_backward_kernel<T, V, Value, Slope>,
                           ceil_div(shape.packs, kThreads), kThreads, a, shape);
      });
    });
  });
}

}  // namespace vt::cuda
