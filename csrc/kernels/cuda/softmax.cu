// Softmax and log-softmax forward and backward, with the scale and causal mask of attention.
//
// One warp a row up to 1024 elements, one block beyond: a first walk finds maximum and sum together
// (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018), a second writes; the
// row is then still in the cache.
#include "kernels/cuda/rows.h"
#include "kernels/math.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

template <class C>
struct MaxSum {
  C max, sum;  // sum of exp(x - max)
  __device__ static MaxSum empty() { return {-std::numeric_limits<C>::infinity(), 0}; }
  __device__ void add(C x) {
    if (x == -std::numeric_limits<C>::infinity()) return;
    if (x <= max) {
      sum += math::exp(x - max);
    } else {  // also for NaN; x - x makes the sum NaN for plus infinity, as the definition does
      sum = sum * math::exp(max - x) + (C(1) + (x - x));
      max = x;
    }
  }
};
struct MergeMaxSum {
  template <class C>
  __device__ MaxSum<C> operator()(MaxSum<C> a, MaxSum<C> b) const {
    const C max = MaxOp{}(a.max, b.max);
    const C left = a.max == max ? a.sum : a.sum * math::exp(a.max - max);
    const C right = b.max == max ? b.sum : b.sum * math::exp(b.max - max);
    return {max, left + right};
  }
};

struct SoftmaxShape {
  int64_t rows, n;
  int64_t height;  // rows of one causal matrix; 0: no mask
  // How many leading elements of a row take part.
  __device__ int64_t visible(int64_t row) const {
    if (height == 0) return n;
    const int64_t count = row % height + n - height + 1;
    return count < 0 ? 0 : count < n ? count : n;
  }
};

template <class T, int kWidth, int V>
__global__ void __launch_bounds__(kThreads)
    softmax_rows_kernel(T* out, const T* x, SoftmaxShape shape, compute_t<T> scale, bool log) {
  using C = compute_t<T>;
  const int64_t row = row_of_group<kWidth>();
  if (row >= shape.rows) return;  // a whole warp, or the whole block
  const int lane = threadIdx.x % kWidth;
  const int64_t visible = shape.visible(row);
  x += row * shape.n;
  out += row * shape.n;
  auto state = MaxSum<C>::empty();
  for (int64_t i = lane * V; i < visible; i += kWidth * V) {
    const auto pack = *reinterpret_cast<const Pack<T, V>*>(x + i);
#pragma unroll
    for (int j = 0; j < V; ++j)
      if (i + j < visible) state.add(convert<C>(pack.v[j]) * scale);
  }
  state = group_reduce<kWidth>(state, MergeMaxSum{});
  const C inverse = C(1) / state.sum, log_sum = math::log(state.sum);
  for (int64_t i = lane * V; i < shape.n; i += kWidth * V) {
    const auto pack = *reinterpret_cast<const Pack<T, V>*>(x + i);
    Pack<T, V> result;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const C centred = convert<C>(pack.v[j]) * scale - state.max;
      const C value = log ? centred - log_sum : math::exp(centred) * inverse;
      result.v[j] = convert<T>(i + j < visible ? value : C(0));
    }
    *reinterpret_cast<Pack<T, V>*>(out + i) = result;
  }
}

// Softmax: dx = scale * out * (grad - sum(grad * out)). Log: dx = grad - exp(out) * sum(grad).
template <class T, int kWidth, int V>
__global__ void __launch_bounds__(kThreads)
    softmax_rows_backward_kernel(T* dx, const T* grad, const T* out, int64_t rows, int64_t n,
                                 compute_t<T> scale, bool log) {
  using C = compute_t<T>;
  const int64_t row = row_of_group<kWidth>();
  if (row >= rows) return;
  const int lane = threadIdx.x % kWidth;
  dx += row * n;
  grad += row * n;
  out += row * n;
  C sum = 0;
  for (int64_t i = lane * V; i < n; i += kWidth * V) {
    const auto g = *reinterpret_cast<const Pack<T, V>*>(grad + i);
    const auto o = *reinterpret_cast<const Pack<T, V>*>(out + i);
#pragma unroll
    for (int j = 0; j < V; ++j) sum += convert<C>(g.v[j]) * (log ? C(1) : convert<C>(o.v[j]));
  }
  sum = group_reduce<kWidth>(sum, AddOp{});
  for (int64_t i = lane * V; i < n; i += kWidth * V) {
    const auto g = *reinterpret_cast<const Pack<T, V>*>(grad + i);
    const auto o = *reinterpret_cast<const Pack<T, V>*>(out + i);
    Pack<T, V> result;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const C gj = convert<C>(g.v[j]), oj = convert<C>(o.v[j]);
      result.v[j] = convert<T>(log ? gj - math::exp(oj) * sum : scale * oj * (gj - sum));
    }
    *reinterpret_cast<Pack<T, V>*>(dx + i) = result;
  }
}

// Along a dimension that is not the last: one thread a line, neighbours in memory beside each
// other.
template <class T>
__global__ void __launch_bounds__(kThreads)
    softmax_lines_kernel(T* out, const T* x, int64_t lines, int64_t n, int64_t inner, bool log) {
  using C = compute_t<T>;
  const int64_t line = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (line >= lines) return;
  const int64_t base = line / inner * n * inner + line % inner;
  auto state = MaxSum<C>::empty();
  for (int64_t i = 0; i < n; ++i) state.add(convert<C>(x[base + i * inner]));
  const C log_sum = math::log(state.sum);
  for (int64_t i = 0; i < n; ++i) {
    const C centred = convert<C>(x[base + i * inner]) - state.max;
    out[base + i * inner] = convert<T>(log ? centred - log_sum : math::exp(centred) / state.sum);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    softmax_lines_backward_kernel(T* dx, const T* grad, const T* out, int64_t lines, int64_t n,
                                  int64_t inner, bool log) {
  using C = compute_t<T>;
  const int64_t line = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (line >= lines) return;
  const int64_t base = line / inner * n * inner + line % inner;
  C sum = 0;
  for (int64_t i = 0; i < n; ++i)
    sum += convert<C>(grad[base + i * inner]) * (log ? C(1) : convert<C>(out[base + i * inner]));
  for (int64_t i = 0; i < n; ++i) {
    const C g = convert<C>(grad[base + i * inner]), o = convert<C>(out[base + i * inner]);
    dx[base + i * inner] = convert<T>(log ? g - math::exp(o) * sum : o * (g - sum));
  }
}

void forward_rows(const Queue& queue, const Tensor& out, const Tensor& x, SoftmaxShape shape,
                  double scale, bool log) {
  visit_float("softmax", x.dtype(), [&]<class T>(TypeTag<T>) {
    for_row_shape<T>(
        shape.n, {&out, &x}, [&]<int kWidth, int V>(std::integer_sequence<int, kWidth, V>) {
          queue.launch(&softmax_rows_kernel<T, kWidth, V>, row_blocks<kWidth>(shape.rows), kThreads,
                       out.data<T>(), x.data<T>(), shape, scale, log);
        });
  });
}

void backward_rows(const Queue& queue, const Tensor& dx, const Tensor& grad, const Tensor& out,
                   int64_t n, double scale, bool log) {
  const int64_t rows = out.numel() / n;
  visit_float("softmax_backward", out.dtype(), [&]<class T>(TypeTag<T>) {
    for_row_shape<T>(
        n, {&dx, &grad, &out}, [&]<int kWidth, int V>(std::integer_sequence<int, kWidth, V>) {
          queue.launch(&softmax_rows_backward_kernel<T, kWidth, V>, row_blocks<kWidth>(rows),
                       kThreads, dx.data<T>(), grad.data<T>(), out.data<T>(), rows, n, scale, log);
        });
  });
}

}  // namespace

void softmax(const Tensor& out, const Tensor& x, int dim, bool log) {
  if (x.numel() == 0) return;
  const Lines lines(x.sizes(), dim);
  const Queue queue("softmax", x.device());
  if (lines.inner == 1) return forward_rows(queue, out, x, {lines.outer, lines.n, 0}, 1, log);
  visit_float("softmax", x.dtype(), [&]<class T>(TypeTag<T>) {
    queue.launch(&softmax_lines_kernel<T>, ceil_div(lines.count(), kThreads), kThreads,
                 out.data<T>(), x.data<T>(), lines.count(), lines.n, lines.inner, log);
  });
}

void softmax_backward(const Tensor& dx, const Tensor& grad, const Tensor& out, int dim, bool log) {
  if (out.numel() == 0) return;
  const Lines lines(out.sizes(), dim);
  const Queue queue("softmax_backward", out.device());
  if (lines.inner == 1) return backward_rows(queue, dx, grad, out, lines.n, 1, log);
  visit_float("softmax_backward", out.dtype(), [&]<class T>(TypeTag<T>) {
    queue.launch(&softmax_lines_backward_kernel<T>, ceil_div(lines.count(), kThreads), kThreads,
                 dx.data<T>(), grad.data<T>(), out.data<T>(), lines.count(), lines.n, lines.inner,
                 log);
  });
}

void causal_softmax(const Tensor& out, const Tensor& x, double scale, bool causal) {
  if (x.numel() == 0) return;
  const int64_t height = x.sizes()[1], n = x.sizes()[2];
  forward_rows(Queue("causal_softmax", x.device()), out, x, {x.numel() / n, n, causal ? height : 0},
               scale, false);
}

void causal_softmax_backward(const Tensor& dx, const Tensor& grad, const Tensor& out,
                             double scale) {
  if (out.numel() == 0) return;
  backward_rows(Queue("causal_softmax_backward", out.device()), dx, grad, out, out.sizes()[2],
                scale, false);
}

}  // namespace vt::cuda
