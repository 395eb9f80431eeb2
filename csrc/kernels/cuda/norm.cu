// Layer norm and RMS norm forward and backward, and the variance of rows. RMS norm is layer norm
// with a mean of 0.
//
// The gradients of weight and bias are sums over rows: a first kernel sums chunks of rows, a second
// one the chunks, both in a fixed order.
#include "kernels/cuda/rows.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

// Mean and sum of squared deviations of a row, in two walks.
template <bool kCentred, int kWidth, int V, class T>
__device__ __forceinline__ void row_moments(const T* x, int64_t n, compute_t<T>& mean,
                                            compute_t<T>& squares) {
  using C = compute_t<T>;
  const int lane = threadIdx.x % kWidth;
  mean = 0;
  if constexpr (kCentred) {
    C sum = 0;
    for (int64_t i = lane * V; i < n; i += kWidth * V) {
      const auto pack = *reinterpret_cast<const Pack<T, V>*>(x + i);
#pragma unroll
      for (int j = 0; j < V; ++j) sum += convert<C>(pack.v[j]);
    }
    mean = group_sum<kWidth>(sum) / static_cast<C>(n);
  }
  C sum = 0;
  for (int64_t i = lane * V; i < n; i += kWidth * V) {
    const auto pack = *reinterpret_cast<const Pack<T, V>*>(x + i);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const C d = convert<C>(pack.v[j]) - mean;
      sum += d * d;
    }
  }
  squares = group_sum<kWidth>(sum);
}

template <class T, bool kCentred, int kWidth, int V>
__global__ void __launch_bounds__(kThreads)
    norm_kernel(T* out, compute_t<T>* means, compute_t<T>* rstds, const T* x, const T* weight,
                const T* bias, int64_t rows, int64_t n, compute_t<T> eps) {
  using C = compute_t<T>;
  const int64_t row = row_of_group<kWidth>();
  if (row >= rows) return;
  const int lane = threadIdx.x % kWidth;
  x += row * n;
  out += row * n;
  C mean, squares;
  row_moments<kCentred, kWidth, V>(x, n, mean, squares);
  const C rstd = C(1) / sqrt(squares / static_cast<C>(n) + eps);
  if (lane == 0) {
    if (kCentred) means[row] = mean;
    rstds[row] = rstd;
  }
  for (int64_t i = lane * V; i < n; i += kWidth * V) {
    const auto pack = *reinterpret_cast<const Pack<T, V>*>(x + i);
    Pack<T, V> w, b, result;
    if (weight) w = *reinterpret_cast<const Pack<T, V>*>(weight + i);
    if (bias) b = *reinterpret_cast<const Pack<T, V>*>(bias + i);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      C value = (convert<C>(pack.v[j]) - mean) * rstd;
      if (weight) value *= convert<C>(w.v[j]);
      if (bias) value += convert<C>(b.v[j]);
      result.v[j] = convert<T>(value);
    }
    *reinterpret_cast<Pack<T, V>*>(out + i) = result;
  }
}

// With xhat = (x - mean) rstd and g = grad * weight: dx = rstd (g - mean(g) - xhat mean(g xhat)).
template <class T, bool kCentred, int kWidth, int V>
__global__ void __launch_bounds__(kThreads)
    norm_backward_kernel(T* dx, const T* grad, const T* x, const compute_t<T>* means,
                         const compute_t<T>* rstds, const T* weight, int64_t rows, int64_t n) {
  using C = compute_t<T>;
  const int64_t row = row_of_group<kWidth>();
  if (row >= rows) return;
  const int lane = threadIdx.x % kWidth;
  dx += row * n;
  grad += row * n;
  x += row * n;
  const C mean = kCentred ? means[row] : C(0), rstd = rstds[row];
  C sum_g = 0, sum_gx = 0;
  auto each = [&](int64_t i, auto&& f) {
    const auto gs = *reinterpret_cast<const Pack<T, V>*>(grad + i);
    const auto xs = *reinterpret_cast<const Pack<T, V>*>(x + i);
    Pack<T, V> ws;
    if (weight) ws = *reinterpret_cast<const Pack<T, V>*>(weight + i);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      C g = convert<C>(gs.v[j]);
      if (weight) g *= convert<C>(ws.v[j]);
      f(j, g, (convert<C>(xs.v[j]) - mean) * rstd);
    }
  };
  for (int64_t i = lane * V; i < n; i += kWidth * V)
    each(i, [&](int, C g, C xhat) {
      sum_g += g;
      sum_gx += g * xhat;
    });
  const C mean_g = kCentred ? group_sum<kWidth>(sum_g) / static_cast<C>(n) : C(0);
  const C mean_gx = group_sum<kWidth>(sum_gx) / static_cast<C>(n);
  for (int64_t i = lane * V; i < n; i += kWidth * V) {
    Pack<T, V> result;
    each(i, [&](int j, C g, C xhat) {
      result.v[j] = convert<T>(rstd * (g - mean_g - xhat * mean_gx));
    });
    *reinterpret_cast<Pack<T, V>*>(dx + i) = result;
  }
}

constexpr int kColumns = 32, kColumnRows = 16;

// Sums of grad * xhat and of grad over one chunk of rows: partial [chunk][n], bias sums after all
// weight sums.
template <class T, bool kCentred>
__global__ void __launch_bounds__(kColumns* kColumnRows)
    norm_parameters_kernel(compute_t<T>* partial, const T* grad, const T* x,
                           const compute_t<T>* means, const compute_t<T>* rstds, int64_t rows,
                           int64_t n, int64_t chunk) {
  using C = compute_t<T>;
  __shared__ C parts[2][kColumnRows][kColumns];
  const int64_t column = int64_t{blockIdx.x} * kColumns + threadIdx.x;
  const int64_t begin = blockIdx.y * chunk, end = begin + chunk < rows ? begin + chunk : rows;
  C dw = 0, db = 0;
  if (column < n) {
#pragma unroll 4
    for (int64_t row = begin + threadIdx.y; row < end; row += kColumnRows) {
      const C g = convert<C>(grad[row * n + column]);
      const C mean = kCentred ? means[row] : C(0);
      dw += g * ((convert<C>(x[row * n + column]) - mean) * rstds[row]);
      db += g;
    }
  }
  parts[0][threadIdx.y][threadIdx.x] = dw;
  parts[1][threadIdx.y][threadIdx.x] = db;
  __syncthreads();
  if (threadIdx.y > 1 || column >= n) return;
  C sum = 0;
#pragma unroll
  for (int r = 0; r < kColumnRows; ++r) sum += parts[threadIdx.y][r][threadIdx.x];
  partial[(int64_t{threadIdx.y} * gridDim.y + blockIdx.y) * n + column] = sum;
}

template <class T>
__global__ void __launch_bounds__(kColumns* kColumnRows)
    norm_parameters_finish_kernel(T* dweight, T* dbias, const compute_t<T>* partial, int64_t n,
                                  int chunks) {
  using C = compute_t<T>;
  __shared__ C parts[kColumnRows][kColumns];
  T* out = blockIdx.y == 0 ? dweight : dbias;
  if (!out) return;
  const int64_t column = int64_t{blockIdx.x} * kColumns + threadIdx.x;
  C sum = 0;
  if (column < n)
    for (int c = threadIdx.y; c < chunks; c += kColumnRows)
      sum += partial[(int64_t{blockIdx.y} * chunks + c) * n + column];
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= n) return;
#pragma unroll
  for (int r = 1; r < kColumnRows; ++r) sum += parts[r][threadIdx.x];
  out[column] = convert<T>(sum);
}

template <class T, int kWidth, int V>
__global__ void __launch_bounds__(kThreads)
    variance_kernel(T* out, compute_t<T>* means, const T* x, int64_t rows, int64_t n,
                    compute_t<T> divisor) {
  const int64_t row = row_of_group<kWidth>();
  if (row >= rows) return;
  compute_t<T> mean, squares;
  row_moments<true, kWidth, V>(x + row * n, n, mean, squares);
  if (threadIdx.x % kWidth != 0) return;
  means[row] = mean;
  out[row] = convert<T>(squares / divisor);
}

template <bool kCentred>
void forward(const char* op, const Tensor& out, const Tensor& mean, const Tensor& rstd,
             const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  if (x.numel() == 0) return;
  const int64_t rows = x.sizes()[0], n = x.sizes()[1];
  const Queue queue(op, x.device());
  visit_float(op, x.dtype(), [&]<class T>(TypeTag<T>) {
    using C = compute_t<T>;
    for_row_shape<T>(n, {&out, &x, &weight, &bias},
                     [&]<int kWidth, int V>(std::integer_sequence<int, kWidth, V>) {
                       queue.launch(&norm_kernel<T, kCentred, kWidth, V>, row_blocks<kWidth>(rows),
                                    kThreads, out.data<T>(), data_or_null<C>(mean), rstd.data<C>(),
                                    x.data<T>(), data_or_null<T>(weight), data_or_null<T>(bias),
                                    rows, n, eps);
                     });
  });
}

template <bool kCentred>
void backward(const char* op, const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
              const Tensor& grad, const Tensor& x, const Tensor& mean, const Tensor& rstd,
              const Tensor& weight) {
  const int64_t rows = x.sizes()[0], n = x.sizes()[1];
  if (n == 0) return;
  const Queue queue(op, x.device());
  visit_float(op, x.dtype(), [&]<class T>(TypeTag<T>) {
    using C = compute_t<T>;
    if (dx.defined())
      for_row_shape<T>(n, {&dx, &grad, &x, &weight},
                       [&]<int kWidth, int V>(std::integer_sequence<int, kWidth, V>) {
                         queue.launch(&norm_backward_kernel<T, kCentred, kWidth, V>,
                                      row_blocks<kWidth>(rows), kThreads, dx.data<T>(),
                                      grad.data<T>(), x.data<T>(), data_or_null<C>(mean),
                                      rstd.data<C>(), data_or_null<T>(weight), rows, n);
                       });
    if (!dweight.defined() && !dbias.defined()) return;
    const int64_t columns = ceil_div(n, kColumns);
    const int64_t wanted =
        std::clamp<int64_t>(1024 / columns, 1, ceil_div(std::max<int64_t>(rows, 1), 64));
    const int64_t chunk = ceil_div(std::max<int64_t>(rows, 1), wanted),
                  chunks = ceil_div(rows, chunk);
    const Scratch<C> partial(queue, 2 * chunks * n);
    queue.launch(&norm_parameters_kernel<T, kCentred>,
                 dim3(static_cast<unsigned>(columns), static_cast<unsigned>(chunks)),
                 dim3(kColumns, kColumnRows), partial.get(), grad.data<T>(), x.data<T>(),
                 data_or_null<C>(mean), rstd.data<C>(), rows, n, chunk);
    queue.launch(&norm_parameters_finish_kernel<T>, dim3(static_cast<unsigned>(columns), 2),
                 dim3(kColumns, kColumnRows), data_or_null<T>(dweight), data_or_null<T>(dbias),
                 partial.get(), n, chunks);
  });
}

}  // namespace

void layer_norm(const Tensor& out, const Tensor& mean, const Tensor& rstd, const Tensor& x,
                const Tensor& weight, const Tensor& bias, double eps) {
  forward<true>("layer_norm", out, mean, rstd, x, weight, bias, eps);
}
void layer_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                         const Tensor& grad, const Tensor& x, const Tensor& mean,
                         const Tensor& rstd, const Tensor& weight) {
  backward<true>("layer_norm_backward", dx, dweight, dbias, grad, x, mean, rstd, weight);
}
void rms_norm(const Tensor& out, const Tensor& rstd, const Tensor& x, const Tensor& weight,
              double eps) {
  forward<false>("rms_norm", out, Tensor(), rstd, x, weight, Tensor(), eps);
}
void rms_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& grad, const Tensor& x,
                       const Tensor& rstd, const Tensor& weight) {
  backward<false>("rms_norm_backward", dx, dweight, Tensor(), grad, x, Tensor(), rstd, weight);
}

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
