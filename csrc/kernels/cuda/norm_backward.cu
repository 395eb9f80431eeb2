// The gradients of layer norm and RMS norm.
//
// Note [Norm gradients in one pass]
// dweight and dbias are sums over rows, dx needs sums along them. One block a multiprocessor walks
// over the rows; each thread keeps its columns of dweight and dbias in registers from row to row,
// so grad and x are read once. The rows ahead are on their way into shared memory meanwhile. Blocks
// write their sums, a second kernel adds those up. The sums of dx along its columns, which are the
// gradient of a bias added in front of the residual stream, are kept in the same way. The order of
// every sum depends on the shape and the GPU only.
#include "kernels/cuda/held_row.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/norm_gradients.h"
#include "kernels/cuda/packs.h"
#include "kernels/cuda/rows.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

// Threads of a block whose rows take kWidth threads each; a whole number of groups.
constexpr int norm_block(int width, int packs) {
  return width == 96 ? 768 : width == 32 && packs == 3 ? 384 : 512;
}

template <class C>
struct TwoSums {
  C g, gx;
};
struct AddSums {
  template <class C>
  __device__ __forceinline__ TwoSums<C> operator()(TwoSums<C> a, TwoSums<C> b) const {
    return {a.g + b.g, a.gx + b.gx};
  }
  template <class C>
  __device__ __forceinline__ C operator()(C a, C b) const {
    return a + b;
  }
};

template <int kNumber, int kThreadsOfIt>
__device__ __forceinline__ void named_barrier() {
  asm volatile("bar.sync %0, %1;" ::"n"(kNumber), "n"(kThreadsOfIt) : "memory");
}

// Sums over one of the groups of kWidth threads that a block consists of; the groups may be at
// different rows. `turn` alternates from call to call: a slow thread then still finds the parts of
// the call before.
template <int kWidth, int kBlock, class Sums>
__device__ __forceinline__ Sums sum_over_group(Sums value, int turn) {
  value = warp_reduce(value, AddSums{});
  if constexpr (kWidth == kWarp) return value;
  constexpr int kWarps = kWidth / kWarp;
  __shared__ Sums storage[2][kBlock / kWarp];
  const int group = threadIdx.x / kWidth, warp = threadIdx.x / kWarp;
  if (threadIdx.x % kWarp == 0) storage[turn][warp] = value;
  // Each group has a barrier of its own, by a number known here.
  [&]<int... G>(std::integer_sequence<int, G...>) {
    ((group == G ? named_barrier<G + 1, kWidth>() : void()), ...);
  }(std::make_integer_sequence<int, kBlock / kWidth>{});
  const Sums* parts = &storage[turn][group * kWarps];
  Sums result = parts[0];
#pragma unroll
  for (int w = 1; w < kWarps; ++w) result = AddSums{}(result, parts[w]);
  return result;
}

// The rows that a thread works on next, on their way into shared memory. It reads what it copied
// itself, so that no barrier is needed.
template <class T, int kWidth, int kPacks, bool kExtra, int kBlock>
struct RowsAhead {
  static constexpr int V = 16 / sizeof(T), kTensors = kExtra ? 3 : 2;
  static constexpr int kStages = kPacks * kTensors >= 4 && !(kExtra && kWidth == 512) ? 3 : 4;
  static constexpr size_t kBytes = size_t{kStages} * kTensors * kPacks * kBlock * 16;
  using Held = Pack<T, V>;
  Held* memory;  // [stage][tensor][pack][thread]

  __device__ __forceinline__ Held* place(int stage, int tensor, int pack) const {
    return memory + ((stage * kTensors + tensor) * kPacks + pack) * kBlock + threadIdx.x;
  }
  __device__ __forceinline__ void copy(int stage, int tensor, const T* row, int n, int lane) const {
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (const int i = RegisterRow<T, kWidth, kPacks>::start(p, lane); i < n)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                         static_cast<unsigned>(__cvta_generic_to_shared(place(stage, tensor, p)))),
                     "l"(row + i)
                     : "memory");
  }
  // Starts the copy of a row, of none past the last one.
  __device__ __forceinline__ void start(const NormBackward<T>& a, int64_t row, int stage,
                                        int lane) const {
    if (row < a.rows) {
      const int n = static_cast<int>(a.n);
      copy(stage, 0, a.grad + row * a.n, n, lane);
      copy(stage, 1, a.x + row * a.n, n, lane);
      if constexpr (kExtra) copy(stage, 2, a.extra + row * a.n, n, lane);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
  // Waits for all copies but the latest kStages - 1.
  __device__ __forceinline__ void wait() const {
    asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 1) : "memory");
  }
};

// See Note [Norm gradients in one pass]. kBoth: as layer norm needs it; RMS norm has no mean and no
// bias. partial is [1 + kBoth + kSums][blocks][V][kPacks][kWidth]: dweight, dbias, the sums of dx;
// or null. The latter are taken before dx is rounded.
template <class T, int kWidth, int kPacks, bool kExtra, bool kBoth, bool kSums, int kBlock>
__global__ void __launch_bounds__(kBlock, 1)
    norm_backward_kernel(NormBackward<T> a, compute_t<T>* partial) {
  await_earlier();
  using C = compute_t<T>;
  using Row = RegisterRow<T, kWidth, kPacks>;
  using Ahead = RowsAhead<T, kWidth, kPacks, kExtra, kBlock>;
  constexpr int V = Row::V, kGroups = kBlock / kWidth, kStages = Ahead::kStages;
  constexpr int kKinds = 1 + kBoth + kSums;
  // Are widened numbers kept from the first walk over a row for the second one? The kernel has as
  // many instructions to issue as the memory gives it time for.
  constexpr bool kKeep = sizeof(C) == 4 && kBlock <= 512;
  extern __shared__ __align__(16) char shared[];
  const Ahead ahead{reinterpret_cast<Pack<T, V>*>(shared)};
  const int group = threadIdx.x / kWidth, lane = threadIdx.x % kWidth;
  const int n = static_cast<int>(a.n);
  const int64_t step = int64_t{gridDim.x} * kGroups;
  int64_t row = int64_t{blockIdx.x} * kGroups + group;
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) ahead.start(a, row + s * step, s, lane);
  Row weight;
  if (a.weight) {
    weight.load(a.weight, n, lane);
  } else {
#pragma unroll
    for (Pack<T, V>& pack : weight.packs)
#pragma unroll
      for (T& one : pack.v) one = convert<T>(C(1));
  }
  C columns[kKinds][kPacks][V] = {};
  const C inverse = C(1) / static_cast<C>(n);
  C next_mean = 0, next_rstd = 0;
  auto load_statistics = [&](int64_t of) {
    if (of >= a.rows) return;
    if (kBoth && a.means) next_mean = a.means[of];
    next_rstd = a.rstds[of];
  };
  load_statistics(row);
  for (int stage = 0, turn = 0; row < a.rows; row += step, turn ^= 1) {
    const C mean = next_mean, rstd = next_rstd;
    load_statistics(row + step);
    ahead.start(a, row + (kStages - 1) * step, stage == 0 ? kStages - 1 : stage - 1, lane);
    ahead.wait();
    // grad * weight and x - mean, which is xhat / rstd.
    Pack<C, V> kept_h[kKeep ? kPacks : 1], kept_x[kKeep ? kPacks : 1];
    // f(j, grad, grad * weight, x - mean, weight)
    auto each = [&](int p, auto&& f) {
      const Pack<C, V> grad = widen<C>(*ahead.place(stage, 0, p)),
                       x = widen<C>(*ahead.place(stage, 1, p)), w = widen<C>(weight.packs[p]);
#pragma unroll
      for (int j = 0; j < V; ++j)
        f(j, grad.v[j], grad.v[j] * w.v[j], kBoth ? x.v[j] - mean : x.v[j], w.v[j]);
    };
    C sum_g = 0, sum_gx = 0;
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (Row::start(p, lane) < n)
        each(p, [&](int j, C g, C h, C x, C w) {
          if constexpr (kKeep) {
            kept_h[p].v[j] = h;
            kept_x[p].v[j] = x;
          }
          const C gx = g * x;
          sum_gx += gx * w;
          columns[0][p][j] += gx * rstd;
          if constexpr (kBoth) {
            sum_g += h;
            columns[1][p][j] += g;
          }
        });
    // dx = rstd h - shift - slope (x - mean)
    C shift = 0;
    if constexpr (kBoth) {
      const auto sums = sum_over_group<kWidth, kBlock>(TwoSums<C>{sum_g, sum_gx}, turn);
      if (a.means) shift = rstd * (sums.g * inverse);
      sum_gx = sums.gx;
    } else {
      sum_gx = sum_over_group<kWidth, kBlock>(sum_gx, turn);
    }
    const C slope = sum_gx * rstd * inverse * rstd * rstd;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int i = Row::start(p, lane);
      if (i >= n) continue;
      Pack<C, V> result, extra;
      if constexpr (kExtra) extra = widen<C>(*ahead.place(stage, 2, p));
      auto put = [&](int j, C, C h, C x, C) {
        result.v[j] = fused(-slope, x, fused(rstd, h, -shift));
        if constexpr (kExtra) result.v[j] += extra.v[j];
        if constexpr (kSums) columns[kKinds - 1][p][j] += result.v[j];
      };
      if constexpr (kKeep) {
#pragma unroll
        for (int j = 0; j < V; ++j) put(j, C(0), kept_h[p].v[j], kept_x[p].v[j], C(0));
      } else {
        each(p, put);
      }
      *reinterpret_cast<Pack<T, V>*>(a.dx + row * a.n + i) = narrow<T>(result);
    }
    stage = stage == kStages - 1 ? 0 : stage + 1;
  }
  if (!partial) return;
  asm volatile("cp.async.wait_all;" ::: "memory");
  __syncthreads();
  static_assert(size_t{kKinds} * V * kPacks * kBlock * sizeof(C) <= Ahead::kBytes);
  join_columns<kWidth, kBlock>(columns, reinterpret_cast<C*>(shared), partial);
}

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

// Up to three results: the sums of partial [result][parts][held] over its parts. Column c of them
// is element (c % (held / vector)) * vector + c / (held / vector) of the row.
template <class T>
struct Results {
  T* data[3];  // null: not wanted
};
template <class T>
__global__ void __launch_bounds__(kColumns* kColumnRows)
    norm_parameters_finish_kernel(Results<T> results, const compute_t<T>* partial, int64_t n,
                                  int64_t held, int vector, int parts_count) {
  await_earlier();
  using C = compute_t<T>;
  __shared__ C parts[kColumnRows][kColumns];
  T* out = results.data[blockIdx.y];
  if (!out) return;
  const int64_t column = int64_t{blockIdx.x} * kColumns + threadIdx.x;
  C sum = 0;
  if (column < held)
    sum = combine_strided<10>(
        sum, threadIdx.y, parts_count, kColumnRows,
        [&](int c) { return partial[(int64_t{blockIdx.y} * parts_count + c) * held + column]; },
        AddOp{});
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= held) return;
#pragma unroll
  for (int r = 1; r < kColumnRows; ++r) sum += parts[r][threadIdx.x];
  const int64_t packs = held / vector, i = column % packs * vector + column / packs;
  if (i < n) out[i] = convert<T>(sum);
}

// The three results, of which any may be undefined.
struct ColumnSums {
  const Tensor &dweight, &dbias, &dx_sum;
};

// `both`: partial has sums for dbias.
template <class T>
void finish(const Queue& queue, const ColumnSums& out, bool both, const compute_t<T>* partial,
            int64_t n, int64_t held, int vector, int64_t parts) {
  Results<T> results{};
  unsigned count = 0;
  results.data[count++] = data_or_null<T>(out.dweight);
  if (both) results.data[count++] = data_or_null<T>(out.dbias);
  if (out.dx_sum.defined()) results.data[count++] = out.dx_sum.data<T>();
  queue.launch_early(&norm_parameters_finish_kernel<T>,
                     dim3(static_cast<unsigned>(ceil_div(held, kColumns)), count),
                     dim3(kColumns, kColumnRows), results, partial, n, held, vector, parts);
}

template <class T, class Shape, bool kExtra, bool kBoth, bool kSums>
bool launch_one_pass(const Queue& queue, const ColumnSums& out, const NormBackward<T>& a) {
  constexpr int block = norm_block(Shape::width, Shape::packs), groups = block / Shape::width;
  constexpr int V = 16 / sizeof(T), held = V * Shape::packs * Shape::width;
  constexpr size_t bytes = RowsAhead<T, Shape::width, Shape::packs, kExtra, block>::kBytes;
  // The static part comes on top.
  if (static_cast<int64_t>(bytes) + 1024 > queue.shared_limit()) return false;
  auto kernel = &norm_backward_kernel<T, Shape::width, Shape::packs, kExtra, kBoth, kSums, block>;
  const int64_t blocks = std::min<int64_t>(queue.multiprocessors(), ceil_div(a.rows, groups));
  if constexpr (Shape::width == kWarp && V * Shape::packs <= 8 && sizeof(T) <= 4 && !kExtra &&
                !kSums) {
    constexpr int kTogether = 4;
    if (a.rows <= int64_t{queue.multiprocessors()} * groups * kTogether)
      kernel = &norm_backward_few_kernel<T, Shape::packs, kBoth, kTogether, block>;
  }
  const bool sums = kSums || out.dweight.defined() || out.dbias.defined();
  const Scratch<compute_t<T>> partial(queue, sums ? (1 + kBoth + kSums) * blocks * held : 0);
  queue.allow_shared(reinterpret_cast<const void*>(kernel), bytes);
  queue.launch_shared<Start::kEarly>(kernel, blocks, block, bytes, a, partial.get());
  if (sums) finish<T>(queue, out, kBoth, partial.get(), a.n, held, V, blocks);
  return true;
}

// False: no block holds such rows.
template <class T, bool kExtra, bool kBoth>
bool in_one_pass(const Queue& queue, const ColumnSums& out, const NormBackward<T>& a) {
  bool done = false;
  const int64_t packs = a.n * static_cast<int64_t>(sizeof(T)) / 16;
  if (out.dx_sum.defined()) {
    // A pack a thread, as three sums a column take many registers.
    choose_row_shape<RowShape<32, 1>, RowShape<64, 1>, RowShape<96, 1>, RowShape<128, 1>,
                     RowShape<256, 1>, RowShape<512, 1>, RowShape<512, 2>>(
        packs, [&]<class Shape>(Shape) {
          done = launch_one_pass<T, Shape, kExtra, kBoth, true>(queue, out, a);
        });
    return done;
  }
  choose_row_shape<RowShape<32, 1>, RowShape<32, 2>, RowShape<32, 3>, RowShape<128, 1>,
                   RowShape<128, 2>, RowShape<256, 2>, RowShape<512, 2>>(
      packs, [&]<class Shape>(Shape) {
        done = launch_one_pass<T, Shape, kExtra, kBoth, false>(queue, out, a);
      });
  return done;
}
template <class T>
bool in_one_pass(const Queue& queue, const ColumnSums& out, const NormBackward<T>& a) {
  const bool both = a.means || out.dbias.defined();
  if (a.extra)
    return both ? in_one_pass<T, true, true>(queue, out, a)
                : in_one_pass<T, true, false>(queue, out, a);
  return both ? in_one_pass<T, false, true>(queue, out, a)
              : in_one_pass<T, false, false>(queue, out, a);
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
  finish<T>(queue, {out.dweight, out.dbias, none}, true, partial.get(), a.n, a.n, 1, chunks);
}

}  // namespace

void norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                   const Tensor& dx_sum, const Tensor& grad, const Tensor& extra, const Tensor& x,
                   const Tensor& mean, const Tensor& rstd, const Tensor& weight) {
  if (x.numel() == 0) return;
  const char* op = mean.defined() ? "layer_norm_backward" : "rms_norm_backward";
  const Queue queue(op, x.device());
  const ColumnSums out{dweight, dbias, dx_sum};
  visit_float(op, x.dtype(), [&]<class T>(TypeTag<T>) {
    using C = compute_t<T>;
    const NormBackward<T> a{
        dx.data<T>(),          grad.data<T>(), data_or_null<T>(extra),  x.data<T>(),
        data_or_null<C>(mean), rstd.data<C>(), data_or_null<T>(weight), x.sizes()[0],
        x.sizes()[1]};
    if (rows_are_packed<T>(a.n, {&dx, &grad, &extra, &x, &weight}) && in_one_pass(queue, out, a))
      return;
    in_walks(queue, dx, out, grad, extra, x, weight, a);
  });
}

}  // namespace vt::cuda
