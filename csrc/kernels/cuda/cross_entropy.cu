// Softmax cross-entropy of rows of logits, forward and backward; the probabilities are never
// stored.
#include "device/cuda/fault.h"
#include "kernels/cuda/rows.h"
#include "kernels/math.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

// -1 where the row does not count: its target is ignored, or out of range (which is noted).
__device__ __forceinline__ int64_t counted_target(int64_t target, int64_t classes, int64_t ignored,
                                                  FaultNote* note, bool report) {
  if (target == ignored) return -1;
  if (target >= 0 && target < classes) return target;
  if (report) note_index_fault(note, "cross_entropy", target, classes);
  return -1;
}

template <class T, int kWidth, int V>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_kernel(compute_t<T>* loss, compute_t<T>* logsumexp, const T* logits,
                         const int64_t* targets, int64_t rows, int64_t classes, int64_t ignored,
                         compute_t<T> smoothing, FaultNote* note) {
  using C = compute_t<T>;
  const int64_t row = row_of_group<kWidth>();
  if (row >= rows) return;
  const int lane = threadIdx.x % kWidth;
  logits += row * classes;
  C max = -std::numeric_limits<C>::infinity();
  for (int64_t i = lane * V; i < classes; i += kWidth * V) {
    const auto pack = *reinterpret_cast<const Pack<T, V>*>(logits + i);
#pragma unroll
    for (int j = 0; j < V; ++j) max = MaxOp{}(convert<C>(pack.v[j]), max);
  }
  max = group_reduce<kWidth>(max, MaxOp{});
  C sum = 0, total = 0;
  for (int64_t i = lane * V; i < classes; i += kWidth * V) {
    const auto pack = *reinterpret_cast<const Pack<T, V>*>(logits + i);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const C value = convert<C>(pack.v[j]);
      sum += math::exp(value - max);
      total += value;
    }
  }
  sum = group_sum<kWidth>(sum);
  if (smoothing != 0) total = group_sum<kWidth>(total);
  if (lane != 0) return;
  const C lse = max + math::log(sum);
  const int64_t target = counted_target(targets[row], classes, ignored, note, true);
  C result = 0;
  if (target >= 0) {
    result = lse - (C(1) - smoothing) * convert<C>(logits[target]);
    if (smoothing != 0) result -= smoothing * (total / static_cast<C>(classes));
  }
  loss[row] = result;
  logsumexp[row] = lse;
}

template <class T, int kWidth, int V>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_backward_kernel(T* dlogits, const compute_t<T>* grad, const T* logits,
                                  const int64_t* targets, const compute_t<T>* logsumexp,
                                  int64_t rows, int64_t classes, int64_t ignored,
                                  compute_t<T> smoothing) {
  using C = compute_t<T>;
  const int64_t row = row_of_group<kWidth>();
  if (row >= rows) return;
  const int lane = threadIdx.x % kWidth;
  dlogits += row * classes;
  logits += row * classes;
  const int64_t target = counted_target(targets[row], classes, ignored, nullptr, false);
  const C scale = target < 0 ? C(0) : grad[row], lse = logsumexp[row];
  const C everywhere = smoothing / static_cast<C>(classes);
  for (int64_t i = lane * V; i < classes; i += kWidth * V) {
    const auto pack = *reinterpret_cast<const Pack<T, V>*>(logits + i);
    Pack<T, V> result;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      C value = math::exp(convert<C>(pack.v[j]) - lse) - everywhere;
      if (i + j == target) value -= C(1) - smoothing;
      result.v[j] = convert<T>(target < 0 ? C(0) : value * scale);
    }
    *reinterpret_cast<Pack<T, V>*>(dlogits + i) = result;
  }
}

}  // namespace

void cross_entropy(const Tensor& loss, const Tensor& logsumexp, const Tensor& logits,
                   const Tensor& target, int64_t ignore_index, double label_smoothing) {
  const int64_t rows = logits.sizes()[0], classes = logits.sizes()[1];
  const Queue queue("cross_entropy", logits.device());
  visit_float("cross_entropy", logits.dtype(), [&]<class T>(TypeTag<T>) {
    using C = compute_t<T>;
    for_row_shape<T>(classes, {&logits},
                     [&]<int kWidth, int V>(std::integer_sequence<int, kWidth, V>) {
                       queue.launch(&cross_entropy_kernel<T, kWidth, V>, row_blocks<kWidth>(rows),
                                    kThreads, loss.data<C>(), logsumexp.data<C>(), logits.data<T>(),
                                    target.data<int64_t>(), rows, classes, ignore_index,
                                    label_smoothing, fault_note(queue.index()));
                     });
  });
}

void cross_entropy_backward(const Tensor& dlogits, const Tensor& grad, const Tensor& logits,
                            const Tensor& target, const Tensor& logsumexp, int64_t ignore_index,
                            double label_smoothing) {
  const int64_t rows = logits.sizes()[0], classes = logits.sizes()[1];
  const Queue queue("cross_entropy_backward", logits.device());
  visit_float("cross_entropy_backward", logits.dtype(), [&]<class T>(TypeTag<T>) {
    using C = compute_t<T>;
    for_row_shape<T>(classes, {&dlogits, &logits},
                     [&]<int kWidth, int V>(std::integer_sequence<int, kWidth, V>) {
                       queue.launch(&cross_entropy_backward_kernel<T, kWidth, V>,
                                    row_blocks<kWidth>(rows), kThreads, dlogits.data<T>(),
                                    grad.data<C>(), logits.data<T>(), target.data<int64_t>(),
                                    logsumexp.data<C>(), rows, classes, ignore_index,
                                    label_smoothing);
                     });
  });
}

}  // namespace vt::cuda
