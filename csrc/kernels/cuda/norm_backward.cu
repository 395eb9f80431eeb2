// The gradients of layer norm and RMS norm, also behind dropout and a residual sum.
#include "kernels/cuda/norm_gradients.h"
#include "kernels/cuda/rows.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

// Rows of any length and alignment: dx alone, in two walks.
template <class T, int kWidth, int V>
__global__ void __launch_bounds__(kThreads) norm_backward_walk_kernel(NormBackward<T> a) {
  await_earlier();
  using C = compute_t<T>;
  const int64_t row = row_of_group<kWidth>();
  if (row >= a.rows) return;
  const int lane = threadIdx.x % kWidth;
  const int64_t n = a.n, at = row * n;
  const C mean = a.means ? a.means[row] : C(0), rstd = a.rstds[row];
  auto each = [&](int64_t i, auto&& f) {
    const auto gs = *reinterpret_cast<const Pack<T, V>*>(a.grad + at + i);
    const auto xs = *reinterpret_cast<const Pack<T, V>*>(a.x + at + i);
    Pack<T, V> ws;
    if (a.weight) ws = *reinterpret_cast<const Pack<T, V>*>(a.weight + i);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      C g = convert<C>(gs.v[j]);
      if (a.weight) g *= convert<C>(ws.v[j]);
      f(j, g, (convert<C>(xs.v[j]) - mean) * rstd);
    }
  };
  C sum_g = 0, sum_gx = 0;
  for (int64_t i = lane * V; i < n; i += kWidth * V)
    each(i, [&](int, C g, C xhat) {
      sum_g += g;
      sum_gx += g * xhat;
    });
  const C mean_g = a.means ? group_sum<kWidth>(sum_g) / static_cast<C>(n) : C(0);
  const C mean_gx = group_sum<kWidth>(sum_gx) / static_cast<C>(n);
  for (int64_t i = lane * V; i < n; i += kWidth * V) {
    Pack<T, V> result, extra;
    if (a.extra) extra = *reinterpret_cast<const Pack<T, V>*>(a.extra + at + i);
    each(i, [&](int j, C g, C xhat) {
      C value = rstd * (g - mean_g - xhat * mean_gx);
      if (a.extra) value += convert<C>(extra.v[j]);
      result.v[j] = convert<T>(value);
    });
    *reinterpret_cast<Pack<T, V>*>(a.dx + at + i) = result;
  }
}

constexpr int kColumns = 32, kColumnRows = 16;

// The sums of dweight and dbias over one chunk of rows, beside norm_backward_walk_kernel.
template <class T>
__global__ void __launch_bounds__(kColumns* kColumnRows)
    norm_parameters_kernel(NormBackward<T> a, compute_t<T>* partial, int64_t chunk) {
  await_earlier();
  using C = compute_t<T>;
  __shared__ C parts[2][kColumnRows][kColumns];
  const int64_t column = int64_t{blockIdx.x} * kColumns + threadIdx.x;
  const int64_t begin = blockIdx.y * chunk, end = begin + chunk < a.rows ? begin + chunk : a.rows;
  C dw = 0, db = 0;
  if (column < a.n) {
#pragma unroll 4
    for (int64_t row = begin + threadIdx.y; row < end; row += kColumnRows) {
      const C g = convert<C>(a.grad[row * a.n + column]);
      const C mean = a.means ? a.means[row] : C(0);
      dw += g * ((convert<C>(a.x[row * a.n + column]) - mean) * a.rstds[row]);
      db += g;
    }
  }
  parts[0][threadIdx.y][threadIdx.x] = dw;
  parts[1][threadIdx.y][threadIdx.x] = db;
  __syncthreads();
  if (threadIdx.y > 1 || column >= a.n) return;
  C sum = 0;
#pragma unroll
  for (int r = 0; r < kColumnRows; ++r) sum += parts[threadIdx.y][r][threadIdx.x];
  partial[(int64_t{threadIdx.y} * gridDim.y + blockIdx.y) * a.n + column] = sum;
}

// Up to three results: the sums of partial [result][parts][n] over its parts.
template <class T>
struct Results {
  T* data[3];  // null: not wanted
};
template <class T>
__global__ void __launch_bounds__(kColumns* kColumnRows)
    norm_parameters_finish_kernel(Results<T> results, const compute_t<T>* partial, int64_t n,
                                  int parts_count) {
  await_earlier();
  using C = compute_t<T>;
  __shared__ C parts[kColumnRows][kColumns];
  T* out = results.data[blockIdx.y];
  if (!out) return;
  const int64_t column = int64_t{blockIdx.x} * kColumns + threadIdx.x;
  C sum = 0;
  if (column < n)
    sum = combine_strided<10>(
        sum, threadIdx.y, parts_count, kColumnRows,
        [&](int c) { return partial[(int64_t{blockIdx.y} * parts_count + c) * n + column]; },
        AddOp{});
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= n) return;
#pragma unroll
  for (int r = 1; r < kColumnRows; ++r) sum += parts[r][threadIdx.x];
  out[column] = convert<T>(sum);
}

// The three results, of which any may be undefined.
struct ColumnSums {
  const Tensor &dweight, &dbias, &dx_sum;
};

// `both`: partial has sums for dbias.
template <class T>
void finish(const Queue& queue, const ColumnSums& out, bool both, const compute_t<T>* partial,
            int64_t n, int64_t parts) {
  Results<T> results{};
  unsigned count = 0;
  results.data[count++] = data_or_null<T>(out.dweight);
  if (both) results.data[count++] = data_or_null<T>(out.dbias);
  if (out.dx_sum.defined()) results.data[count++] = out.dx_sum.data<T>();
  queue.launch_early(&norm_parameters_finish_kernel<T>,
                     dim3(static_cast<unsigned>(ceil_div(n, kColumns)), count),
                     dim3(kColumns, kColumnRows), results, partial, n, parts);
}

template <class T, class Shape, bool kExtra, bool kBoth, Beside kBeside>
bool launch_one_pass(const Queue& queue, const ColumnSums& out, const NormBackward<T>& a,
                     const NormDroppedAgain<T>& drop) {
  constexpr int W = Shape::width, P = Shape::packs;
  constexpr int block = norm_block(W, P, kBeside), groups = block / W;
  constexpr size_t bytes = RowsAhead<T, W, P, kExtra, block>::kBytes;
  // The static part comes on top.
  if (static_cast<int64_t>(bytes) + 1024 > queue.shared_limit()) return false;
  auto kernel = &norm_backward_kernel<T, W, P, kExtra, kBoth, kBeside, block>;
  const int64_t blocks = std::min<int64_t>(queue.multiprocessors(), ceil_div(a.rows, groups));
  // For sums of two kinds, and for floats, it has too many registers to be faster.
  if constexpr (W == kWarp && P == 1 && sizeof(T) == 2 && !kExtra && !kBoth &&
                kBeside == Beside::kNothing) {
    constexpr int kTogether = 4;
    if (a.rows <= int64_t{queue.multiprocessors()} * groups * kTogether)
      kernel = &norm_backward_few_kernel<T, kTogether, block>;
  }
  constexpr int kinds = 1 + kBoth + (kBeside == Beside::kSums);
  const bool sums = kBeside == Beside::kSums || out.dweight.defined() || out.dbias.defined();
  const Scratch<compute_t<T>> partial(queue, sums ? kinds * blocks * a.n : 0);
  queue.allow_shared(reinterpret_cast<const void*>(kernel), bytes);
  queue.launch_shared<Start::kEarly>(kernel, blocks, block, bytes, a, drop, partial.get());
  if (sums) finish<T>(queue, out, kBoth, partial.get(), a.n, blocks);
  return true;
}

// False: no block holds such rows.
template <class T, bool kExtra, bool kBoth, Beside kBeside>
bool in_one_pass(const Queue& queue, const ColumnSums& out, const NormBackward<T>& a,
                 const NormDroppedAgain<T>& drop) {
  bool done = false;
  const int64_t packs = a.n * static_cast<int64_t>(sizeof(T)) / 16;
  auto launch = [&]<class Shape>(Shape) {
    done = launch_one_pass<T, Shape, kExtra, kBoth, kBeside>(queue, out, a, drop);
  };
  if constexpr (kBeside == Beside::kSums)  // three sums a column take many registers
    choose_row_shape<RowShape<32, 1>, RowShape<32, 2>, RowShape<32, 3>, RowShape<128, 1>,
                     RowShape<256, 1>, RowShape<512, 1>, RowShape<512, 2>>(packs, launch);
  else
    choose_row_shape<RowShape<32, 1>, RowShape<32, 2>, RowShape<32, 3>, RowShape<128, 1>,
                     RowShape<128, 2>, RowShape<256, 2>, RowShape<512, 2>>(packs, launch);
  return done;
}
template <class T>
bool in_one_pass(const Queue& queue, const ColumnSums& out, const NormBackward<T>& a,
                 const NormDroppedAgain<T>& drop) {
  auto beside = [&]<bool kExtra, bool kBoth>(std::bool_constant<kExtra>,
                                             std::bool_constant<kBoth>) {
    if (drop.out) return in_one_pass<T, kExtra, kBoth, Beside::kDropped>(queue, out, a, drop);
    if (out.dx_sum.defined())
      return in_one_pass<T, kExtra, kBoth, Beside::kSums>(queue, out, a, drop);
    return in_one_pass<T, kExtra, kBoth, Beside::kNothing>(queue, out, a, drop);
  };
  using Yes = std::true_type;
  using No = std::false_type;
  const bool both = a.means || out.dbias.defined();
  if (a.extra) return both ? beside(Yes{}, Yes{}) : beside(Yes{}, No{});
  return both ? beside(No{}, Yes{}) : beside(No{}, No{});
}

template <class T>
void in_walks(const Queue& queue, const Tensor& dx, const ColumnSums& out, const Tensor& grad,
              const Tensor& extra, const Tensor& x, const Tensor& weight,
              const NormBackward<T>& a) {
  for_row_shape<T>(a.n, {&dx, &grad, &extra, &x, &weight},
                   [&]<int kWidth, int V>(std::integer_sequence<int, kWidth, V>) {
                     queue.launch_early(&norm_backward_walk_kernel<T, kWidth, V>,
                                        row_blocks<kWidth>(a.rows), kThreads, a);
                   });
  if (out.dx_sum.defined()) reduce(out.dx_sum, dx, ReduceKind::kSum, 1u);
  if (!out.dweight.defined() && !out.dbias.defined()) return;
  const int64_t columns = ceil_div(a.n, kColumns);
  const int64_t wanted = std::clamp<int64_t>(1024 / columns, 1, ceil_div(a.rows, 64));
  const int64_t chunk = ceil_div(a.rows, wanted), chunks = ceil_div(a.rows, chunk);
  const Scratch<compute_t<T>> partial(queue, 2 * chunks * a.n);
  queue.launch_early(&norm_parameters_kernel<T>,
                     dim3(static_cast<unsigned>(columns), static_cast<unsigned>(chunks)),
                     dim3(kColumns, kColumnRows), a, partial.get(), chunk);
  const Tensor none;
  finish<T>(queue, {out.dweight, out.dbias, none}, true, partial.get(), a.n, chunks);
}

// As norm_backward(); with `begun` defined also dropped, dx after the dropout that noted it.
void run(const Tensor& dx, const Tensor& dropped, const Tensor& begun, double p,
         const ColumnSums& out, const Tensor& grad, const Tensor& extra, const Tensor& x,
         const Tensor& mean, const Tensor& rstd, const Tensor& weight) {
  if (x.numel() == 0) return;
  const char* op = mean.defined() ? "layer_norm_backward" : "rms_norm_backward";
  const Queue queue(op, x.device());
  visit_float(op, x.dtype(), [&]<class T>(TypeTag<T>) {
    using C = compute_t<T>;
    const NormBackward<T> a{
        dx.data<T>(),          grad.data<T>(), data_or_null<T>(extra),  x.data<T>(),
        data_or_null<C>(mean), rstd.data<C>(), data_or_null<T>(weight), x.sizes()[0],
        x.sizes()[1]};
    NormDroppedAgain<T> drop{};
    if (dropped.defined())
      drop = {dropped.data<T>(), begun.data<uint64_t>(), random::least_kept(p),
              random::kept_scale(p)};
    if (rows_are_packed<T>(a.n, {&dx, &dropped, &grad, &extra, &x, &weight}) &&
        in_one_pass(queue, out, a, drop))
      return;
    in_walks(queue, dx, out, grad, extra, x, weight, a);
    if (dropped.defined()) dropout_again(dropped, begun, dx, p);
  });
}

}  // namespace

void norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                   const Tensor& dx_sum, const Tensor& grad, const Tensor& extra, const Tensor& x,
                   const Tensor& mean, const Tensor& rstd, const Tensor& weight) {
  const Tensor none;
  run(dx, none, none, 0, {dweight, dbias, dx_sum}, grad, extra, x, mean, rstd, weight);
}

void dropout_norm_backward(const Tensor& dx, const Tensor& dropped, const Tensor& dweight,
                           const Tensor& dbias, const Tensor& begun, const Tensor& grad,
                           const Tensor& extra, const Tensor& x, const Tensor& mean,
                           const Tensor& rstd, const Tensor& weight, double p) {
  const Tensor none;
  run(dx, dropped, begun, p, {dweight, dbias, none}, grad, extra, x, mean, rstd, weight);
}

}  // namespace vt::cuda
