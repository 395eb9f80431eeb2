// Softmax cross-entropy of rows of logits: forward, backward, and both in one pass that leaves the
// gradient in place of the logits. The probabilities are never stored.
#include "kernels/cuda/cross_entropy.h"
#include "kernels/cuda/cross_entropy_wide.h"
#include "kernels/cuda/held_row.h"
#include "kernels/cuda/max_sum.h"
#include "kernels/cuda/packs.h"
#include "kernels/cuda/rows.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

// A row's logsumexp and, where labels are smoothed, the sum of its logits. Of a row that is held
// the maximum is found first, so that the sum of exponentials has not to be corrected.
template <class T, class Row>
__device__ __forceinline__ void normalisers(Row& row, int lane, const Labels<compute_t<T>>& labels,
                                            compute_t<T>& logsumexp, compute_t<T>& total) {
  using C = compute_t<T>;
  constexpr int V = Row::V, kWidth = Row::kWidth;
  C sum = 0;
  if (labels.smoothing != 0) {
    row.each(labels.classes, lane, [&](int64_t, const Pack<T, V>& pack, int) {
      const Pack<C, V> values = widen<C>(pack);
#pragma unroll
      for (int j = 0; j < V; ++j) sum += values.v[j];
    });
    sum = row_reduce<kWidth, 0>(sum, AddOp{});
    row.keep_packed();
  }
  total = sum;
  if constexpr (Row::kHeld) {
    Largest<T, C> largest;
    row.each(labels.classes, lane,
             [&](int64_t, const Pack<T, V>& pack, int) { largest.see(pack); });
    const C max = row_reduce<kWidth, 1>(largest.value(), LargerOp{});
    // Exponentials of minus infinity less itself would be NaN.
    const C base = max == -std::numeric_limits<C>::infinity() ? C(0) : max;
    row.keep_packed();
    C exponentials = 0;
    row.each(labels.classes, lane, [&](int64_t, const Pack<T, V>& pack, int) {
      const Pack<C, V> values = widen<C>(pack);
#pragma unroll
      for (int j = 0; j < V; ++j) exponentials += row_exp<T>(values.v[j] - base);
    });
    logsumexp = max + math::log(row_reduce<kWidth, 2>(exponentials, AddOp{}));
  } else {
    auto state = MaxSum<C>::empty();
    row.each(labels.classes, lane, [&](int64_t, const Pack<T, V>& pack, int) {
      state.template add<T>(widen<C>(pack).v);
    });
    state = group_reduce<kWidth>(state, MergeMaxSum<T>{});
    logsumexp = state.max + math::log(state.sum);
  }
}

// dlogits = (softmax - what the label wants) * scale; 0 where the target is -1. dlogits may be the
// memory that the row was loaded from.
template <class T, class Row>
__device__ __forceinline__ void store_gradient(Row& row, int lane, T* dlogits,
                                               const Labels<compute_t<T>>& labels, int64_t target,
                                               compute_t<T> logsumexp, compute_t<T> scale) {
  using C = compute_t<T>;
  constexpr int V = Row::V;
  const C everywhere = labels.smoothing / static_cast<C>(labels.classes);
  row.each(labels.classes, lane, [&](int64_t i, const Pack<T, V>& pack, int) {
    Pack<C, V> values = widen<C>(pack);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      C value = row_exp<T>(values.v[j] - logsumexp) - everywhere;
      if (i + j == target) value -= C(1) - labels.smoothing;
      values.v[j] = target < 0 ? C(0) : value * scale;
    }
    *reinterpret_cast<Pack<T, V>*>(dlogits + i) = narrow<T>(values);
  });
}

template <class T, class Row>
__global__ void __launch_bounds__(held_block(Row::kWidth))
    cross_entropy_kernel(compute_t<T>* loss, compute_t<T>* logsumexps, const T* logits,
                         Labels<compute_t<T>> labels) {
  await_earlier();
  using C = compute_t<T>;
  const int64_t number = held_row_number<Row>();
  if (number >= labels.rows) return;
  const int lane = threadIdx.x % Row::kWidth;
  logits += number * labels.classes;
  Row row;
  row.load(logits, labels.classes, lane);
  C logsumexp, total;
  normalisers<T>(row, lane, labels, logsumexp, total);
  if (lane != 0) return;
  const int64_t target = labels.counted(number, true);
  loss[number] = target < 0 ? C(0) : labels.loss(logsumexp, convert<C>(logits[target]), total);
  logsumexps[number] = logsumexp;
}

template <class T, class Row>
__global__ void __launch_bounds__(held_block(Row::kWidth))
    cross_entropy_backward_kernel(T* dlogits, const compute_t<T>* grad, const T* logits,
                                  const compute_t<T>* logsumexps, Labels<compute_t<T>> labels) {
  await_earlier();
  const int64_t number = held_row_number<Row>();
  if (number >= labels.rows) return;
  const int lane = threadIdx.x % Row::kWidth;
  Row row;
  row.load(logits + number * labels.classes, labels.classes, lane);
  store_gradient<T>(row, lane, dlogits + number * labels.classes, labels,
                    labels.counted(number, false), logsumexps[number], grad[number]);
}

// Loss and gradient while the row is at hand. dlogits may be logits; grad_step is 0 where one
// number is the gradient of every row.
template <class T, class Row>
__global__ void __launch_bounds__(held_block(Row::kWidth), held_blocks<Row>())
    cross_entropy_both_kernel(compute_t<T>* loss, T* dlogits, const compute_t<T>* grad,
                              int64_t grad_step, const T* logits, Labels<compute_t<T>> labels) {
  await_earlier();
  using C = compute_t<T>;
  const int64_t number = held_row_number<Row>();
  if (number >= labels.rows) return;
  const int lane = threadIdx.x % Row::kWidth;
  logits += number * labels.classes;
  Row row;
  row.load(logits, labels.classes, lane);
  const int64_t target = labels.counted(number, lane == 0);
  const C target_logit = target < 0 ? C(0) : convert<C>(logits[target]);
  C logsumexp, total;
  normalisers<T>(row, lane, labels, logsumexp, total);
  row.keep_packed();
  if constexpr (Row::kWidth <= kWarp) __syncwarp();  // from here on the row may be overwritten
  else __syncthreads();
  if (lane == 0) loss[number] = target < 0 ? C(0) : labels.loss(logsumexp, target_logit, total);
  store_gradient<T>(row, lane, dlogits + number * labels.classes, labels, target, logsumexp,
                    grad[number * grad_step]);
}

constexpr int kTotalThreads = 1024;

template <class C>
__global__ void __launch_bounds__(kTotalThreads)
    rate_kernel(C* rate, const int64_t* targets, int64_t rows, int64_t ignored) {
  await_earlier();
  int64_t count = 0;
#pragma unroll 8
  for (int64_t row = threadIdx.x; row < rows; row += kTotalThreads)
    count += targets[row] != ignored;
  count = block_sum<kTotalThreads>(count);
  if (threadIdx.x == 0) *rate = C(1) / static_cast<C>(count);
}

template <class T>
__global__ void __launch_bounds__(kTotalThreads)
    total_kernel(T* out, const compute_t<T>* loss, int64_t rows, const compute_t<T>* rate) {
  await_earlier();
  using C = compute_t<T>;
  C sum = 0;
#pragma unroll 8
  for (int64_t row = threadIdx.x; row < rows; row += kTotalThreads) sum += loss[row];
  sum = block_sum<kTotalThreads>(sum);
  if (threadIdx.x == 0) *out = convert<T>(sum * *rate);
}

template <class T, int V>
__global__ void __launch_bounds__(kThreads) scale_kernel(T* x, const T* factor, int64_t n) {
  await_earlier();
  using C = compute_t<T>;
  const C by = convert<C>(*factor);
  if (by == C(1)) return;
  const int64_t step = int64_t{gridDim.x} * kThreads * V;
  for (int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V; i < n; i += step) {
    if (i + V <= n) {
      auto pack = *reinterpret_cast<const Pack<T, V>*>(x + i);
#pragma unroll
      for (int j = 0; j < V; ++j) pack.v[j] = convert<T>(convert<C>(pack.v[j]) * by);
      *reinterpret_cast<Pack<T, V>*>(x + i) = pack;
    } else {
      for (int64_t k = i; k < n; ++k) x[k] = convert<T>(convert<C>(x[k]) * by);
    }
  }
}

template <class C>
Labels<C> labels_of(const Queue& queue, const Tensor& logits, const Tensor& target,
                    int64_t ignore_index, double smoothing) {
  return {target.data<int64_t>(), logits.sizes()[0],         logits.sizes()[1],
          ignore_index,           static_cast<C>(smoothing), fault_note(queue.index())};
}

constexpr int kWideBlock = 512, kWideHeld = 7, kWideBlocks = 2;

// Rows that Note [A wide row on the chip] is about; false: these are not.
template <class T>
bool both_of_wide_rows(const Queue& queue, const Tensor& loss, const Tensor& dlogits,
                       const Tensor& grad, const Tensor& logits,
                       const Labels<compute_t<T>>& labels) {
  if constexpr (sizeof(T) == 2) {
    const int64_t held = kWideBlock * kWideHeld, packs = labels.classes / 8;
    const int64_t bytes = std::max<int64_t>(packs - held, 0) * 16;
    if (labels.classes <= 8192 || labels.smoothing != 0 ||
        !rows_are_packed<T>(labels.classes, {&dlogits, &logits}) ||
        bytes + static_cast<int64_t>(kDeclared) > queue.shared_limit())
      return false;
    const auto kernel = &cross_entropy_wide_kernel<T, kWideBlock, kWideHeld, kWideBlocks>;
    if (bytes + static_cast<int64_t>(kDeclared) > (48 << 10))
      queue.allow_shared(reinterpret_cast<const void*>(kernel), static_cast<size_t>(bytes));
    queue.launch_shared<Start::kEarly>(kernel, labels.rows, kWideBlock, static_cast<size_t>(bytes),
                                       loss.data<float>(), dlogits.data<T>(), grad.data<float>(),
                                       grad.numel() == labels.rows, logits.data<T>(), labels);
    return true;
  } else {
    return false;
  }
}

}  // namespace

void cross_entropy(const Tensor& loss, const Tensor& logsumexp, const Tensor& logits,
                   const Tensor& target, int64_t ignore_index, double label_smoothing) {
  const int64_t classes = logits.sizes()[1];
  const Queue queue("cross_entropy", logits.device());
  visit_float("cross_entropy", logits.dtype(), [&]<class T>(TypeTag<T>) {
    using C = compute_t<T>;
    const auto labels = labels_of<C>(queue, logits, target, ignore_index, label_smoothing);
    auto run = [&]<class Row>(RowTag<Row>) {
      launch_held<Row>(queue, &cross_entropy_kernel<T, Row>, labels.rows, 0, loss.data<C>(),
                       logsumexp.data<C>(), logits.data<T>(), labels);
    };
    // Longer rows are walked: nothing of them is needed again.
    const bool packed = rows_are_packed<T>(classes, {&logits});
    auto hold = [&]<class Shape>(Shape) {
      run(RowTag<RegisterRow<T, Shape::width, Shape::packs>>{});
    };
    const int64_t packs = classes * static_cast<int64_t>(sizeof(T)) / 16;
    if (packed &&
        (choose_short_row(packs, hold) || choose_row_shape<RowShape<256, 4>>(packs, hold)))
      return;
    visit_walked_row<T>(classes, packed, run);
  });
}

void cross_entropy_backward(const Tensor& dlogits, const Tensor& grad, const Tensor& logits,
                            const Tensor& target, const Tensor& logsumexp, int64_t ignore_index,
                            double label_smoothing) {
  const int64_t classes = logits.sizes()[1];
  const Queue queue("cross_entropy_backward", logits.device());
  visit_float("cross_entropy_backward", logits.dtype(), [&]<class T>(TypeTag<T>) {
    using C = compute_t<T>;
    const auto labels = labels_of<C>(queue, logits, target, ignore_index, label_smoothing);
    auto run = [&]<class Row>(RowTag<Row>) {
      launch_held<Row>(queue, &cross_entropy_backward_kernel<T, Row>, labels.rows, 0,
                       dlogits.data<T>(), grad.data<C>(), logits.data<T>(), logsumexp.data<C>(),
                       labels);
    };
    visit_walked_row<T>(classes, rows_are_packed<T>(classes, {&dlogits, &logits}), run);
  });
}

void cross_entropy_both(const Tensor& loss, const Tensor& dlogits, const Tensor& grad,
                        const Tensor& logits, const Tensor& target, int64_t ignore_index,
                        double label_smoothing) {
  const int64_t classes = logits.sizes()[1];
  const Queue queue("cross_entropy", logits.device());
  visit_float("cross_entropy", logits.dtype(), [&]<class T>(TypeTag<T>) {
    using C = compute_t<T>;
    const auto labels = labels_of<C>(queue, logits, target, ignore_index, label_smoothing);
    if (both_of_wide_rows<T>(queue, loss, dlogits, grad, logits, labels)) return;
    const int64_t grad_step = grad.numel() == labels.rows;
    choose_held_row<T>(queue, classes, rows_are_packed<T>(classes, {&dlogits, &logits}),
                       [&]<class Row>(RowTag<Row>, size_t shared) {
                         launch_held<Row>(queue, &cross_entropy_both_kernel<T, Row>, labels.rows,
                                          shared, loss.data<C>(), dlogits.data<T>(), grad.data<C>(),
                                          grad_step, logits.data<T>(), labels);
                       });
  });
}

void cross_entropy_rate(const Tensor& rate, const Tensor& target, int64_t ignore_index) {
  const Queue queue("cross_entropy", rate.device());
  visit_float("cross_entropy", rate.dtype(), [&]<class C>(TypeTag<C>) {
    if constexpr (sizeof(C) >= 4)
      queue.launch_early(&rate_kernel<C>, 1, kTotalThreads, rate.data<C>(), target.data<int64_t>(),
                         target.numel(), ignore_index);
  });
}

void cross_entropy_total(const Tensor& out, const Tensor& loss, const Tensor& rate) {
  const Queue queue("cross_entropy", out.device());
  visit_float("cross_entropy", out.dtype(), [&]<class T>(TypeTag<T>) {
    using C = compute_t<T>;
    queue.launch_early(&total_kernel<T>, 1, kTotalThreads, out.data<T>(), loss.data<C>(),
                       loss.numel(), rate.data<C>());
  });
}

void scale_unless_one(const Tensor& x, const Tensor& factor) {
  const Queue queue("cross_entropy_backward", x.device());
  visit_float("cross_entropy", x.dtype(), [&]<class T>(TypeTag<T>) {
    auto run = [&]<int V>(std::integral_constant<int, V>) {
      const int64_t blocks = std::min<int64_t>(ceil_div(x.numel(), int64_t{kThreads} * V),
                                               int64_t{queue.multiprocessors()} * 8);
      queue.launch_early(&scale_kernel<T, V>, blocks, kThreads, x.data<T>(), factor.data<T>(),
                         x.numel());
    };
    constexpr int kVector = 16 / sizeof(T);
    if (is_aligned(x.data(), 16)) run(std::integral_constant<int, kVector>{});
    else run(std::integral_constant<int, 1>{});
  });
}

}  // namespace vt::cuda
