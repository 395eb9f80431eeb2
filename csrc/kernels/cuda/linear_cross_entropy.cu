// Softmax cross-entropy of logits that a product makes, which are never stored, and rows times
// numbers, which is what its gradient asks for.
//
// Note [A cross-entropy without logits]
// What a softmax is of may be shifted by any number a row; here it is the target's logit, which a
// small kernel computes ahead. So the product's epilogue can store exponentials instead of logits
// and add them up as they come, and since the target's own is 1, the sum S is at least 1 and log S
// is the loss. The gradient of the logits is grad / S times (exponentials, less S at the target):
// a factor for each row, which is applied where the rows of the products with it are. Should the
// other logits lie so far above the target's that S nears the end of what floats hold, the row is
// computed again from its largest logit, by a kernel that is always launched and mostly ends at
// once.
#include "base/error.h"
#include "kernels/cuda/cross_entropy.h"
#include "kernels/cuda/gelu/product.h"
#include "kernels/cuda/held_row.h"
#include "kernels/cuda/max_sum.h"
#include "kernels/cuda/packs.h"
#include "kernels/cuda/rows.h"
#include "kernels/linear_add.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

using T = BFloat16;  // of all that takes part but sums, losses and factors
constexpr int kPack = 8;
constexpr float kMostSum = 0x1p100f;

struct Operands {
  const T *a, *b;  // rows of k
  int64_t a_step, b_step, k;

  // A row of a times a row of b, in all lanes of the warp that asks.
  __device__ __forceinline__ float product(int64_t row, int64_t column) const {
    const T* const x = a + row * a_step;
    const T* const y = b + column * b_step;
    float sum = 0;
#pragma unroll 4
    for (int64_t i = threadIdx.x % kWarp * kPack; i < k; i += kWarp * kPack) {
      const auto left = widen<float>(*reinterpret_cast<const Pack<T, kPack>*>(x + i));
      const auto right = widen<float>(*reinterpret_cast<const Pack<T, kPack>*>(y + i));
#pragma unroll
      for (int j = 0; j < kPack; ++j) sum = fmaf(left.v[j], right.v[j], sum);
    }
    return warp_reduce(sum, AddOp{});
  }
};

// What becomes of rows. `again` counts rows that are to be computed again, and lists them.
struct Results {
  float *loss, *scale;
  T* out;
  const float* grad;
  int64_t grad_step;
  int32_t* again;

  // Of a sum of exponentials, `others` without the target's own, which is not at `at` any more. The
  // gradient there is mostly the row's largest: the scale makes up for its rounding.
  __device__ __forceinline__ void store(int64_t row, float row_loss, float sum, float others,
                                        T* at) const {
    *at = convert<T>(-others);
    const float rounded = -convert<float>(*at);
    loss[row] = row_loss;
    scale[row] = grad[row * grad_step] / sum * (rounded > 0 ? others / rounded : 1.f);
  }
};

// A warp for each row: what is added to its logits, of powers of 2.
__global__ void __launch_bounds__(kThreads)
    shifts_kernel(float* shifts, Operands operands, Labels<float> labels, int32_t* again) {
  await_earlier();
  if (blockIdx.x == 0 && threadIdx.x == 0) *again = 0;
  const int64_t row = row_of_group<kWarp>();
  if (row >= labels.rows) return;
  const bool first = threadIdx.x % kWarp == 0;
  const int64_t target = labels.counted(row, first);
  const float logit = operands.product(row, target < 0 ? 0 : target);
  if (first) shifts[row] = -math::kLog2e * logit;
}

constexpr int kSumLanes = kThreads / kWarp;

// Blocks of kWarp rows. A row's sums by tiles are added up lane by lane, then the lanes'.
__global__ void __launch_bounds__(kThreads)
    finish_kernel(Results results, const float* shifts, const float* sums, int64_t tiles,
                  int64_t stride, Labels<float> labels) {
  await_earlier();
  __shared__ float parts[kSumLanes][kWarp];
  const int column = threadIdx.x % kWarp, lane = threadIdx.x / kWarp;
  const int64_t row = int64_t{blockIdx.x} * kWarp + column;
  float sum = 0;
#pragma unroll 8
  for (int64_t tile = lane; tile < tiles; tile += kSumLanes) sum += sums[tile * stride + row];
  parts[lane][column] = sum;
  __syncthreads();
  if (lane != 0 || row >= labels.rows) return;
#pragma unroll
  for (int i = 1; i < kSumLanes; ++i) sum += parts[i][column];
  if (sum < 1) sum = 1;  // by its roundings only
  const int64_t target = labels.counted(row, false);
  if (target < 0) {
    results.loss[row] = results.scale[row] = 0;
    if (sum <= kMostSum) return;  // times 0 they are 0, unlike infinities and NaNs
  } else if (!(sum > kMostSum) && !isinf(shifts[row])) {  // NaNs stay what they are
    results.store(row, math::log(sum), sum, sum - 1, results.out + row * labels.classes + target);
    return;
  }
  results.again[1 + atomicAdd(results.again, 1)] = static_cast<int32_t>(row);
}

// A block for each row of the list: its logits as such, rounded, then exponentials by the largest
// of them. Rows that do not count become zeros.
__global__ void __launch_bounds__(kThreads)
    again_kernel(Results results, Operands operands, Labels<float> labels) {
  await_earlier();
  constexpr int kWarps = kThreads / kWarp;
  const int count = *results.again;
  for (int i = blockIdx.x; i < count; i += gridDim.x) {
    const int64_t row = results.again[1 + i], target = labels.counted(row, false);
    T* const out = results.out + row * labels.classes;
    if (target < 0) {
      for (int64_t j = threadIdx.x; j < labels.classes; j += kThreads) out[j] = T(0.f);
      continue;
    }
    float largest = -std::numeric_limits<float>::infinity();
    for (int64_t j = threadIdx.x / kWarp; j < labels.classes; j += kWarps) {
      const float logit = operands.product(row, j);
      largest = MaxOp{}(largest, logit);
      if (threadIdx.x % kWarp == 0) out[j] = convert<T>(logit);
    }
    largest = block_max<kThreads>(largest);  // a barrier: the logits are there
    const float own = operands.product(row, target) - largest;
    float others = 0;
    for (int64_t j = threadIdx.x; j < labels.classes; j += kThreads) {
      if (j == target) continue;
      const float power = row_exp<T>(convert<float>(out[j]) - largest);
      others += power;
      out[j] = convert<T>(power);
    }
    others = block_sum<kThreads>(others);
    if (threadIdx.x != 0) continue;
    const float sum = others + row_exp<T>(own);
    results.store(row, math::log(sum) - own, sum, others, out + target);
  }
}

// A warp for each row. out may be x.
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    scale_rows_kernel(T* out, const T* x, const compute_t<T>* scale, const T* factor, int64_t rows,
                      int64_t n) {
  await_earlier();
  using C = compute_t<T>;
  constexpr int kHeld = 4, kStep = kWarp * V;
  const int64_t row = row_of_group<kWarp>();
  if (row >= rows) return;
  const C by = factor ? scale[row] * convert<C>(*factor) : scale[row];
  x += row * n;
  out += row * n;
  for (int64_t first = threadIdx.x % kWarp * V; first < n; first += kHeld * kStep) {
    Pack<T, V> held[kHeld];
#pragma unroll
    for (int h = 0; h < kHeld; ++h)
      if (const int64_t i = first + h * kStep; i < n)
        held[h] = *reinterpret_cast<const Pack<T, V>*>(x + i);
#pragma unroll
    for (int h = 0; h < kHeld; ++h) {
      const int64_t i = first + h * kStep;
      if (i >= n) break;
      Pack<C, V> wide = widen<C>(held[h]);
#pragma unroll
      for (int j = 0; j < V; ++j) wide.v[j] *= by;
      *reinterpret_cast<Pack<T, V>*>(out + i) = narrow<T>(wide);
    }
  }
}

}  // namespace

void linear_cross_entropy(const Tensor& loss, const Tensor& scale, const Gemm& product,
                          const Tensor& grad, const Tensor& target, int64_t ignore_index) {
  VT_CHECK(joins_cross_entropy(product), kNotImplemented,
           "linear_cross_entropy: no kernel makes logits of ", product.m, " x ", product.n, " in ",
           name(product.dtype), "; ask joins_cross_entropy first");
  const int64_t rows = product.m;
  const Queue queue("linear_cross_entropy", product.device);
  const RowSums sums = row_sums_of(product);
  const Scratch<float> room(queue, (sums.tiles + 1) * sums.stride);
  const Scratch<int32_t> again(queue, rows + 1);
  float* const shifts = room.get() + sums.tiles * sums.stride;
  const Labels<float> labels{target.data<int64_t>(), rows, product.n,
                             ignore_index,           0.f,  fault_note(queue.index())};
  const Operands operands{static_cast<const T*>(product.a.data),
                          static_cast<const T*>(product.b.data), product.a.row_stride,
                          product.b.column_stride, product.k};
  const Results results{loss.data<float>(), scale.data<float>(),  static_cast<T*>(product.out.data),
                        grad.data<float>(), grad.numel() == rows, again.get()};
  queue.launch_early(&shifts_kernel, row_blocks<kWarp>(rows), kThreads, shifts, operands, labels,
                     again.get());
  exponential_product(queue, product, shifts, room.get());
  queue.launch_early(&finish_kernel, ceil_div(rows, kWarp), kThreads, results, shifts, room.get(),
                     sums.tiles, sums.stride, labels);
  queue.launch_early(&again_kernel, queue.multiprocessors(), kThreads, results, operands, labels);
}

void scale_rows(const Tensor& out, const Tensor& x, const Tensor& scale, const Tensor& factor) {
  const int64_t rows = scale.numel(), n = x.sizes().back();
  const Queue queue("scale_rows", x.device());
  visit_float("scale_rows", x.dtype(), [&]<class E>(TypeTag<E>) {
    auto run = [&]<int V>(std::integral_constant<int, V>) {
      queue.launch_early(&scale_rows_kernel<E, V>, row_blocks<kWarp>(rows), kThreads, out.data<E>(),
                         x.data<E>(), scale.data<compute_t<E>>(), data_or_null<E>(factor), rows, n);
    };
    if (rows_are_packed<E>(n, {&out, &x})) run(std::integral_constant<int, 16 / sizeof(E)>{});
    else run(std::integral_constant<int, 1>{});
  });
}

}  // namespace vt::cuda
