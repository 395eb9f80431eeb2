// The variance of rows.
#include "kernels/cuda/rows.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

// Mean, and then the sum of squared deviations from it.
template <class T, int kWidth, int V>
__global__ void __launch_bounds__(kThreads)
    variance_kernel(T* out, compute_t<T>* means, const T* x, int64_t rows, int64_t n,
                    compute_t<T> divisor) {
  using C = compute_t<T>;
  const int64_t row = row_of_group<kWidth>();
  if (row >= rows) return;
  const int lane = threadIdx.x % kWidth;
  x += row * n;
  auto each = [&](auto&& f) {
    for (int64_t i = lane * V; i < n; i += kWidth * V) {
      const auto pack = *reinterpret_cast<const Pack<T, V>*>(x + i);
#pragma unroll
      for (int j = 0; j < V; ++j) f(convert<C>(pack.v[j]));
    }
  };
  C sum = 0, squares = 0;
  each([&](C value) { sum += value; });
  const C mean = group_sum<kWidth>(sum) / static_cast<C>(n);
  each([&](C value) { squares += (value - mean) * (value - mean); });
  squares = group_sum<kWidth>(squares);
  if (lane != 0) return;
  means[row] = mean;
  out[row] = convert<T>(squares / divisor);
}

}  // namespace

void variance(const Tensor& out, const Tensor& mean, const Tensor& x, double correction) {
  const int64_t rows = x.sizes()[0], n = x.sizes()[1];
  // Like PyTorch: too few elements give 0 / 0 or a division by 0, not an error.
  const double divisor = std::max(0.0, static_cast<double>(n) - correction);
  const Queue queue("var", x.device());
  visit_float("var", x.dtype(), [&]<class T>(TypeTag<T>) {
    for_row_shape<T>(n, {&x}, [&]<int kWidth, int V>(std::integer_sequence<int, kWidth, V>) {
      queue.launch(&variance_kernel<T, kWidth, V>, row_blocks<kWidth>(rows), kThreads,
                   out.data<T>(), mean.data<compute_t<T>>(), x.data<T>(), rows, n, divisor);
    });
  });
}

}  // namespace vt::cuda
