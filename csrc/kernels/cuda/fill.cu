// Memory filled with one number, or with a sequence.
#include "kernels/cuda/strided.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

// `numel` elements that repeat every 16 bytes; the head up to the first 16-byte line is done
// element by element.
template <class T>
__global__ void __launch_bounds__(kThreads) fill_dense_kernel(T* data, T value, int64_t numel) {
  await_earlier();
  constexpr int V = 16 / sizeof(T);
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const auto offset = static_cast<int64_t>(reinterpret_cast<uintptr_t>(data) % 16 / sizeof(T));
  const int64_t begin = thread * V - offset;
  if (begin >= 0 && begin + V <= numel) {
    Pack<T, V> pack;
#pragma unroll
    for (int j = 0; j < V; ++j) pack.v[j] = value;
    *reinterpret_cast<Pack<T, V>*>(data + begin) = pack;
    return;
  }
  for (int64_t i = begin < 0 ? 0 : begin; i < begin + V && i < numel; ++i) data[i] = value;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    fill_strided_kernel(char* data, T value, uint32_t numel, OffsetMap<1> map) {
  const uint32_t element = blockIdx.x * kThreads + threadIdx.x;
  if (element >= numel) return;
  uint32_t at[1];
  map.offsets(element, at);
  *reinterpret_cast<T*>(data + at[0]) = value;
}

template <class T, class C>
__global__ void __launch_bounds__(kThreads) arange_kernel(T* out, C start, C step, int64_t numel) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < numel) out[i] = convert<T>(start + static_cast<C>(i) * step);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    linspace_kernel(T* out, double start, double end, double step, int64_t numel) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= numel) return;
  const double value = i < numel / 2 ? start + static_cast<double>(i) * step
                                     : end - static_cast<double>(numel - 1 - i) * step;
  out[i] = convert<T>(value);
}

}  // namespace

void fill(const Tensor& dst, Scalar value) {
  if (dst.numel() == 0) return;
  const ElementwisePlan plan = plan_elementwise(dst, {});
  const Queue queue("fill", dst.device());
  visit_dtype(dst.dtype(), [&]<class T>(TypeTag<T>) {
    const T element = value.to<T>();
    if (plan.dense) {
      constexpr int V = 16 / sizeof(T);
      queue.launch_early(&fill_dense_kernel<T>, ceil_div(plan.numel + V, int64_t{kThreads} * V),
                         kThreads, reinterpret_cast<T*>(plan.data[0]), element, plan.numel);
      return;
    }
    for_each_32bit_piece(plan, [&](const ElementwisePlan& piece) {
      queue.launch(&fill_strided_kernel<T>, ceil_div(piece.numel, kThreads), kThreads,
                   piece.data[0], element, piece.numel, offset_map<1>(piece));
    });
  });
}

void arange(const Tensor& out, Scalar start, Scalar step) {
  const Queue queue("arange", out.device());
  visit_dtype(out.dtype(), [&]<class T>(TypeTag<T>) {
    using C = std::conditional_t<is_float(DTypeOf<T>::value), double, int64_t>;
    queue.launch(&arange_kernel<T, C>, ceil_div(out.numel(), kThreads), kThreads, out.data<T>(),
                 start.to<C>(), step.to<C>(), out.numel());
  });
}

void linspace(const Tensor& out, double start, double end) {
  const Queue queue("linspace", out.device());
  const int64_t n = out.numel();
  const double step = n > 1 ? (end - start) / static_cast<double>(n - 1) : 0;
  if (n == 1) end = start;
  visit_dtype(out.dtype(), [&]<class T>(TypeTag<T>) {
    queue.launch(&linspace_kernel<T>, ceil_div(n, kThreads), kThreads, out.data<T>(), start, end,
                 step, n);
  });
}

}  // namespace vt::cuda
