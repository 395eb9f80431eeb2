// Dropout, forward and backward. No mask is kept: the forward pass notes where its random numbers
// began, the backward pass draws the same ones again.
#include "kernels/cuda/packs.h"
#include "kernels/random.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

constexpr int kCount = 8;  // neighbouring elements a thread, for which one counter is enough

// The numbers begin at *begun, or at `state`, which is then noted there. See Note [Two elements a
// word].
template <class T, int V, bool kAgain>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(T* out, uint64_t* begun, const T* x, int64_t n, uint32_t least,
                   compute_t<T> scale, PhiloxState state) {
  await_earlier();
  using C = compute_t<T>;
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x, first = thread * kCount;
  // The elements are on their way while the numbers are drawn.
  const bool whole = V > 1 && first + kCount <= n;
  Pack<T, V> packs[kCount / V];
  if (whole) {
#pragma unroll
    for (int part = 0; part < kCount / V; ++part)
      packs[part] = *reinterpret_cast<const Pack<T, V>*>(x + first + part * V);
  }
  PhiloxStart start;
  if constexpr (kAgain) start = {begun[0], begun[1]};
  else start = state.start();
  if (!kAgain && thread == 0) {
    begun[0] = start.seed;
    begun[1] = start.offset;
  }
  if (first >= n) return;
  const Philox4 drawn = philox(start.seed, start.offset + static_cast<uint64_t>(thread));
  auto kept = [&](C value, int j) {
    return random::keep_bits(drawn.v[j / 2], j % 2 != 0) >= least ? value * scale : C(0);
  };
  if (whole) {
#pragma unroll
    for (int part = 0; part < kCount / V; ++part) {
      Pack<C, V> values = widen<C>(packs[part]);
#pragma unroll
      for (int j = 0; j < V; ++j) values.v[j] = kept(values.v[j], part * V + j);
      *reinterpret_cast<Pack<T, V>*>(out + first + part * V) = narrow<T>(values);
    }
    return;
  }
#pragma unroll
  for (int j = 0; j < kCount; ++j)
    if (first + j < n) out[first + j] = convert<T>(kept(convert<C>(x[first + j]), j));
}

template <bool kAgain>
void run(const Tensor& out, const Tensor& begun, const Tensor& x, double p, PhiloxState state) {
  const int64_t n = out.numel();
  const Queue queue("dropout", out.device());
  visit_float("dropout", out.dtype(), [&]<class T>(TypeTag<T>) {
    auto launch = [&]<int V>(std::integral_constant<int, V>) {
      queue.launch_early(&dropout_kernel<T, V, kAgain>, ceil_div(ceil_div(n, kCount), kThreads),
                         kThreads, out.data<T>(), begun.data<uint64_t>(), x.data<T>(), n,
                         random::least_kept(p), random::kept_scale(p), state);
    };
    if (is_aligned(out.data(), 16) && is_aligned(x.data(), 16))
      launch(std::integral_constant<int, 16 / sizeof(T)>{});
    else launch(std::integral_constant<int, 1>{});
  });
}

}  // namespace

void dropout(const Tensor& out, const Tensor& begun, const Tensor& x, double p, PhiloxState state) {
  run<false>(out, begun, x, p, state);
}

void dropout_again(const Tensor& out, const Tensor& begun, const Tensor& x, double p) {
  run<true>(out, begun, x, p, PhiloxState(uint64_t{0}, uint64_t{0}));
}

}  // namespace vt::cuda
