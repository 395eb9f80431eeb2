// Softmax and log-softmax forward and backward, with the scale and causal mask of attention.
//
// A row is held in registers or shared memory; of one that is neither, one walk finds maximum and
// sum together, a second writes. Attention's rows of minus infinities see nothing: zeros.
#include "kernels/cuda/held_row.h"
#include "kernels/cuda/max_sum.h"
#include "kernels/cuda/packs.h"
#include "kernels/cuda/rows.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

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

enum class SoftmaxForm { kProbabilities, kLogarithms, kAttention };  // the last: scale and mask

// Of a row that is held: the maximum first, so that no sum has to be corrected. Elements of 32 bits
// and more give way to their exponentials; those of 16 bits are too coarse for that, and have the
// division in the exponent.
template <SoftmaxForm kForm, class T, class Row>
__device__ __forceinline__ void store_softmax(Row& row, T* out, int64_t n, int lane) {
  using C = compute_t<T>;
  constexpr int V = Row::V, kWidth = Row::kWidth;
  constexpr bool kReplace = !kIsPair<T> && kForm == SoftmaxForm::kProbabilities;
  Largest<T, C> largest;
  row.each(n, lane, [&](int64_t, const Pack<T, V>& pack, int) { largest.see(pack); });
  const C max = row_reduce<kWidth, 0>(largest.value(), LargerOp{});
  row.keep_packed();
  C sum = 0;
  row.each(n, lane, [&](int64_t, Pack<T, V>& pack, int) {
    Pack<C, V> values = widen<C>(pack);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      values.v[j] = row_exp<T>(values.v[j] - max);
      sum += values.v[j];
    }
    if constexpr (kReplace) pack = narrow<T>(values);
  });
  sum = row_reduce<kWidth, 1>(sum, AddOp{});
  row.keep_packed();
  const C inverse = C(1) / sum, logarithm = math::log(sum), shift = logarithm * C(math::kLog2e);
  row.each(n, lane, [&](int64_t i, const Pack<T, V>& pack, int) {
    Pack<C, V> values = widen<C>(pack);
#pragma unroll
    for (C& value : values.v) {
      if constexpr (kReplace) value *= inverse;
      else if constexpr (kForm == SoftmaxForm::kLogarithms) value = value - max - logarithm;
      else value = power_of_two((value - max) * math::kLog2e - shift);
    }
    *reinterpret_cast<Pack<T, V>*>(out + i) = narrow<T>(values);
  });
}

template <SoftmaxForm kForm, class T, class Row>
__global__ void __launch_bounds__(held_block(Row::kWidth), held_blocks<Row>())
    softmax_rows_kernel(T* out, const T* x, SoftmaxShape shape, compute_t<T> scale) {
  await_earlier();
  using C = compute_t<T>;
  constexpr int V = Row::V, kWidth = Row::kWidth;
  constexpr bool kMasked = kForm == SoftmaxForm::kAttention;
  const int64_t number = held_row_number<Row>();
  if (number >= shape.rows) return;  // a whole warp, or the whole block
  const int lane = threadIdx.x % kWidth;
  const int64_t n = shape.n;
  out += number * n;
  Row row;
  row.load(x + number * n, n, lane);
  if constexpr (!kMasked && Row::kHeld) {
    store_softmax<kForm, T>(row, out, n, lane);
  } else {
    const int64_t visible = kMasked ? shape.visible(number) : n;
    auto seen = [&](int64_t i, const Pack<T, V>& pack) {
      Pack<C, V> values = widen<C>(pack);
      if constexpr (kMasked) {
#pragma unroll
        for (int j = 0; j < V; ++j)
          values.v[j] = i + j < visible ? values.v[j] * scale : -std::numeric_limits<C>::infinity();
      }
      return values;
    };
    auto state = MaxSum<C>::empty();
    row.each(n, lane, [&](int64_t i, const Pack<T, V>& pack, int) {
      state.template add<T>(seen(i, pack).v);
    });
    state = group_reduce<kWidth>(state, MergeMaxSum<T>{});
    row.keep_packed();
    const bool nothing = kMasked && state.sum == C(0);
    const C base = nothing ? C(0) : state.max, inverse = nothing ? C(0) : C(1) / state.sum,
            shift = state.max + math::log(state.sum);
    row.each(n, lane, [&](int64_t i, const Pack<T, V>& pack, int) {
      Pack<C, V> values = seen(i, pack);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        if constexpr (kForm == SoftmaxForm::kLogarithms) values.v[j] -= shift;
        else values.v[j] = row_exp<T>(values.v[j] - base) * inverse;
        if (kMasked && i + j >= visible) values.v[j] = 0;
      }
      *reinterpret_cast<Pack<T, V>*>(out + i) = narrow<T>(values);
    });
  }
}

// Softmax: dx = scale * out * (grad - sum(grad * out)). Log: dx = grad - exp(out) * sum(grad).
template <bool kLog, class T, class Row, class GradRow, int kBlocks = 1>
__global__ void __launch_bounds__(held_block(Row::kWidth), kBlocks)
    softmax_rows_backward_kernel(T* dx, const T* grad, const T* out, int64_t rows, int64_t n,
                                 compute_t<T> scale) {
  using C = compute_t<T>;
  constexpr int V = Row::V, kWidth = Row::kWidth;
  await_earlier();
  const int64_t number = held_row_number<Row>();
  if (number >= rows) return;
  const int lane = threadIdx.x % kWidth;
  dx += number * n;
  GradRow grads;
  grads.load(grad + number * n, n, lane);
  Row row;
  row.load(out + number * n, n, lane);
  C sum = 0;
  grads.each(n, lane, [&](int64_t i, const Pack<T, V>& g, int p) {
    const Pack<C, V> grad = widen<C>(g), value = widen<C>(row.at(i, p));
#pragma unroll
    for (int j = 0; j < V; ++j) sum += kLog ? grad.v[j] : grad.v[j] * value.v[j];
  });
  sum = row_reduce<kWidth, 0>(sum, AddOp{});
  grads.keep_packed();
  row.keep_packed();
  grads.each(n, lane, [&](int64_t i, const Pack<T, V>& g, int p) {
    Pack<C, V> grad = widen<C>(g), value = widen<C>(row.at(i, p));
#pragma unroll
    for (int j = 0; j < V; ++j)
      grad.v[j] =
          kLog ? grad.v[j] - row_exp<T>(value.v[j]) * sum : scale * value.v[j] * (grad.v[j] - sum);
    *reinterpret_cast<Pack<T, V>*>(dx + i) = narrow<T>(grad);
  });
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
  for (int64_t i = 0; i < n; ++i) {
    const C value[] = {convert<C>(x[base + i * inner])};
    state.template add<T>(value);
  }
  const C log_sum = math::log(state.sum);
  for (int64_t i = 0; i < n; ++i) {
    const C centred = convert<C>(x[base + i * inner]) - state.max;
    out[base + i * inner] = convert<T>(log ? centred - log_sum : row_exp<T>(centred) / state.sum);
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
    dx[base + i * inner] = convert<T>(log ? g - row_exp<T>(o) * sum : o * (g - sum));
  }
}

template <SoftmaxForm kForm>
void forward_rows(const Queue& queue, const Tensor& out, const Tensor& x, SoftmaxShape shape,
                  double scale = 1) {
  visit_float("softmax", x.dtype(), [&]<class T>(TypeTag<T>) {
    choose_held_row<T>(queue, shape.n, rows_are_packed<T>(shape.n, {&out, &x}),
                       [&]<class Row>(RowTag<Row>, size_t shared) {
                         launch_held<Row>(queue, &softmax_rows_kernel<kForm, T, Row>, shape.rows,
                                          shared, out.data<T>(), x.data<T>(), shape, scale);
                       });
  });
}

template <bool kLog>
void backward_rows(const Queue& queue, const Tensor& dx, const Tensor& grad, const Tensor& out,
                   int64_t n, double scale = 1) {
  const int64_t rows = out.numel() / n;
  visit_float("softmax_backward", out.dtype(), [&]<class T>(TypeTag<T>) {
    auto run = [&]<class Row>(RowTag<Row>, size_t shared) {
      auto launch = [&]<class GradRow, int kBlocks>() {
        launch_held<Row>(queue, &softmax_rows_backward_kernel<kLog, T, Row, GradRow, kBlocks>, rows,
                         shared, dx.data<T>(), grad.data<T>(), out.data<T>(), rows, n, scale);
      };
      if constexpr (Row::kShared) {
        // Two rows in shared memory would leave room for one block: grad stays in registers or,
        // where it is too long, is read again.
        constexpr int W = Row::kWidth;
        auto held = [&]<class Shape>(Shape) {
          constexpr int kBlocks = Shape::packs <= 8 ? 2 : 1;
          launch.template operator()<RegisterRow<T, W, Shape::packs>, kBlocks>();
        };
        if (!choose_row_shape<RowShape<W, 4>, RowShape<W, 8>, RowShape<W, 14>>(n / Row::V, held))
          launch.template operator()<WalkedRow<T, W, Row::V>, 1>();
      } else {
        launch.template operator()<Row, 1>();
      }
    };
    choose_held_row<T>(queue, n, rows_are_packed<T>(n, {&dx, &grad, &out}), run);
  });
}

}  // namespace

void softmax(const Tensor& out, const Tensor& x, int dim, bool log) {
  if (x.numel() == 0) return;
  const Lines lines(x.sizes(), dim);
  const Queue queue("softmax", x.device());
  if (lines.inner == 1) {
    const SoftmaxShape shape{lines.outer, lines.n, 0};
    return log ? forward_rows<SoftmaxForm::kLogarithms>(queue, out, x, shape)
               : forward_rows<SoftmaxForm::kProbabilities>(queue, out, x, shape);
  }
  visit_float("softmax", x.dtype(), [&]<class T>(TypeTag<T>) {
    queue.launch(&softmax_lines_kernel<T>, ceil_div(lines.count(), kThreads), kThreads,
                 out.data<T>(), x.data<T>(), lines.count(), lines.n, lines.inner, log);
  });
}

void softmax_backward(const Tensor& dx, const Tensor& grad, const Tensor& out, int dim, bool log) {
  if (out.numel() == 0) return;
  const Lines lines(out.sizes(), dim);
  const Queue queue("softmax_backward", out.device());
  if (lines.inner == 1)
    return log ? backward_rows<true>(queue, dx, grad, out, lines.n)
               : backward_rows<false>(queue, dx, grad, out, lines.n);
  visit_float("softmax_backward", out.dtype(), [&]<class T>(TypeTag<T>) {
    queue.launch(&softmax_lines_backward_kernel<T>, ceil_div(lines.count(), kThreads), kThreads,
                 dx.data<T>(), grad.data<T>(), out.data<T>(), lines.count(), lines.n, lines.inner,
                 log);
  });
}

void causal_softmax(const Tensor& out, const Tensor& x, double scale, bool causal) {
  if (x.numel() == 0) return;
  const int64_t height = x.sizes()[1], n = x.sizes()[2];
  forward_rows<SoftmaxForm::kAttention>(Queue("causal_softmax", x.device()), out, x,
                                        {x.numel() / n, n, causal ? height : 0}, scale);
}

void causal_softmax_backward(const Tensor& dx, const Tensor& grad, const Tensor& out,
                             double scale) {
  if (out.numel() == 0) return;
  backward_rows<false>(Queue("causal_softmax_backward", out.device()), dx, grad, out,
                       out.sizes()[2], scale);
}

}  // namespace vt::cuda
