// Random numbers: the same bits as on the CPU, because element i draws from Philox
// counter offset + i / 4, word i % 4 (doubles and integers: counter offset + i) on every device.
#include "kernels/cuda/launch.h"
#include "kernels/random.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

// One thread a counter: four elements.
template <class T, bool kNormal>
__global__ void __launch_bounds__(kThreads)
    random_words_kernel(T* out, int64_t n, float shift, float scale, PhiloxState state) {
  const int64_t counter = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (counter * 4 >= n) return;
  const PhiloxStart start = state.start();
  const Philox4 w = philox(start.seed, start.offset + static_cast<uint64_t>(counter));
  float drawn[4];
  if constexpr (kNormal) {
#pragma unroll
    for (int j = 0; j < 4; j += 2) {
      const random::NormalPair pair = random::normal_pair(w.v[j], w.v[j + 1]);
      drawn[j] = pair.first;
      drawn[j + 1] = pair.second;
    }
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j) drawn[j] = random::unit<T>(w.v[j]);
  }
#pragma unroll
  for (int j = 0; j < 4; ++j)
    if (counter * 4 + j < n) out[counter * 4 + j] = convert<T>(random::fma(drawn[j], scale, shift));
}

template <bool kNormal>
__global__ void __launch_bounds__(kThreads)
    random_double_kernel(double* out, int64_t n, double shift, double scale, PhiloxState state) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;
  const PhiloxStart start = state.start();
  const Philox4 w = philox(start.seed, start.offset + static_cast<uint64_t>(i));
  out[i] = random::fma(kNormal ? random::normal_double(w) : uniform_double(w.v[0], w.v[1]), scale,
                       shift);
}

__global__ void __launch_bounds__(kThreads)
    random_int_kernel(int64_t* out, int64_t n, int64_t low, uint64_t range, PhiloxState state) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;
  const PhiloxStart start = state.start();
  const Philox4 w = philox(start.seed, start.offset + static_cast<uint64_t>(i));
  out[i] = static_cast<int64_t>(static_cast<uint64_t>(low) + random::below(w, range));
}

template <bool kNormal>
void fill_random(const char* op, const Tensor& out, double shift, double scale, PhiloxState state) {
  const int64_t n = out.numel();
  const Queue queue(op, out.device());
  visit_float(op, out.dtype(), [&]<class T>(TypeTag<T>) {
    if constexpr (std::is_same_v<T, double>)
      queue.launch(&random_double_kernel<kNormal>, ceil_div(n, kThreads), kThreads, out.data<T>(),
                   n, shift, scale, state);
    else
      queue.launch(&random_words_kernel<T, kNormal>, ceil_div(ceil_div(n, 4), kThreads), kThreads,
                   out.data<T>(), n, shift, scale, state);
  });
}

}  // namespace

void random_uniform(const Tensor& out, double low, double high, PhiloxState state) {
  fill_random<false>("rand", out, low, high - low, state);
}

void random_normal(const Tensor& out, double mean, double std, PhiloxState state) {
  fill_random<true>("randn", out, mean, std, state);
}

void random_int(const Tensor& out, int64_t low, int64_t high, PhiloxState state) {
  const int64_t n = out.numel();
  const Queue queue("randint", out.device());
  queue.launch(&random_int_kernel, ceil_div(n, kThreads), kThreads, out.data<int64_t>(), n, low,
               static_cast<uint64_t>(high) - static_cast<uint64_t>(low), state);
}

}  // namespace vt::cuda
