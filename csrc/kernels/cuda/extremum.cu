// Along one dimension: the largest or smallest element and its index.
#include "kernels/cuda/extremum_groups.h"
#include "kernels/cuda/packs.h"
#include "kernels/cuda/row_chunks.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

template <class C, class Index = int64_t>
struct Candidate {
  C value;
  Index index;
};

// The better of two: NaN first, then the larger (smaller) value, then the smaller index.
template <bool kLargest>
struct BetterOp {
  template <class C, class Index>
  __device__ __forceinline__ Candidate<C, Index> operator()(Candidate<C, Index> a,
                                                            Candidate<C, Index> b) const {
    bool first = a.index < b.index;
    if constexpr (std::is_floating_point_v<C>) {
      const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
      if (a_nan != b_nan) return a_nan ? a : b;
      if (!a_nan && a.value != b.value) first = kLargest == (a.value > b.value);
    } else {
      if (a.value != b.value) first = kLargest == (a.value > b.value);
    }
    return first ? a : b;
  }
  // Is a value better than one with a smaller index?
  template <class C>
  __device__ __forceinline__ bool beats(C value, C best) const {
    if constexpr (std::is_floating_point_v<C>)
      return !(kLargest ? value <= best : value >= best) && best == best;
    else return kLargest ? value > best : value < best;
  }
};

// kWidth threads a row or chunk of it.
template <class T, bool kLargest, int kWidth, int V>
__global__ void __launch_bounds__(kThreads)
    extremum_rows_kernel(ExtremumResult<T> result, const T* x, RowChunks rows) {
  await_earlier();
  using C = compute_t<T>;
  const int64_t row = int64_t{blockIdx.x} * (kThreads / kWidth) + threadIdx.x / kWidth;
  if (row >= rows.rows) return;
  const int64_t begin = rows.begin(blockIdx.y);
  const int end = static_cast<int>(rows.end(blockIdx.y) - begin);
  x += row * rows.n + begin;
  const BetterOp<kLargest> better{};
  // Lanes without an element of their own repeat the first one, which changes nothing.
  Candidate<C, int> best{convert<C>(x[0]), 0};
  auto look = [&](const Pack<T, V>& pack, int i) {
    const Pack<C, V> values = widen<C>(pack);
#pragma unroll
    for (int j = 0; j < V; ++j)
      if (better.beats(values.v[j], best.value)) best = {values.v[j], i + j};
  };
  constexpr int kTogether = 4, kStep = kWidth * V;
  int i = threadIdx.x % kWidth * V;
  for (; i <= end - ((kTogether - 1) * kStep + V); i += kTogether * kStep) {
    Pack<T, V> packs[kTogether];
#pragma unroll
    for (int u = 0; u < kTogether; ++u)
      packs[u] = *reinterpret_cast<const Pack<T, V>*>(x + i + u * kStep);
#pragma unroll
    for (int u = 0; u < kTogether; ++u) look(packs[u], i + u * kStep);
  }
  for (; i <= end - V; i += kStep) look(*reinterpret_cast<const Pack<T, V>*>(x + i), i);
  for (; i < end; ++i)
    if (const C value = convert<C>(x[i]); better.beats(value, best.value)) best = {value, i};
  best = kWidth == kWarp ? warp_reduce(best, better) : block_reduce<kThreads>(best, better);
  if (threadIdx.x % kWidth != 0) return;
  if (result.partial) {
    result.partial[blockIdx.y * rows.rows + row] = begin + best.index;
    return;
  }
  result.values[row] = convert<T>(best.value);
  result.indices[row] = best.index;
}

// The best of the chunks of a row: a block a row.
template <class T, bool kLargest>
__global__ void __launch_bounds__(kThreads)
    extremum_join_kernel(ExtremumResult<T> result, const T* x, int64_t rows, int64_t n,
                         int chunks) {
  await_earlier();
  using C = compute_t<T>;
  const int64_t row = blockIdx.x;
  x += row * n;
  const BetterOp<kLargest> better{};
  Candidate<C> best{convert<C>(x[result.partial[row]]), result.partial[row]};
  constexpr int kTogether = 5;  // places, then values, that are on their way at once
  for (int first = threadIdx.x; first < chunks; first += kTogether * kThreads) {
    int64_t places[kTogether];
    T values[kTogether];
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      const int c = first + u * kThreads;
      places[u] = result.partial[(c < chunks ? c : 0) * rows + row];
    }
#pragma unroll
    for (int u = 0; u < kTogether; ++u) values[u] = x[places[u]];
#pragma unroll
    for (int u = 0; u < kTogether; ++u)
      best = better(best, Candidate<C>{convert<C>(values[u]), places[u]});
  }
  best = block_reduce<kThreads>(best, better);
  if (threadIdx.x != 0) return;
  result.values[row] = x[best.index];
  result.indices[row] = best.index;
}

template <class T, bool kLargest>
__global__ void __launch_bounds__(kThreads)
    extremum_lines_kernel(T* values, int64_t* indices, const T* x, int64_t lines, int64_t n,
                          int64_t inner) {
  await_earlier();
  using C = compute_t<T>;
  const int64_t line = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (line >= lines) return;
  x += line / inner * n * inner + line % inner;
  const BetterOp<kLargest> better{};
  Candidate<C> best{convert<C>(x[0]), 0};
#pragma unroll 8
  for (int64_t i = 1; i < n; ++i)
    if (const C value = convert<C>(x[i * inner]); better.beats(value, best.value))
      best = {value, i};
  values[line] = x[best.index * inner];
  indices[line] = best.index;
}

}  // namespace

void extremum(const Tensor& values, const Tensor& indices, const Tensor& x, int dim, bool largest) {
  if (x.numel() == 0) return;
  const Queue queue(largest ? "max" : "min", x.device());
  const Lines lines(x.sizes(), dim);
  auto run = [&]<class T, bool kLargest>() {
    auto* to = indices.data<int64_t>();
    if (lines.inner > 1) {
      queue.launch_early(&extremum_lines_kernel<T, kLargest>, ceil_div(lines.count(), kThreads),
                         kThreads, values.data<T>(), to, x.data<T>(), lines.count(), lines.n,
                         lines.inner);
      return;
    }
    constexpr bool kGroups = is_float(DTypeOf<T>::value) && sizeof(T) <= 4;
    const RowChunks rows(
        lines.outer, lines.n,
        kGroups ? RowChunks::kMultiprocessors * kGroupBlocks<T> : RowChunks::kWantedBlocks);
    const Scratch<int64_t> partial(queue, rows.chunks > 1 ? rows.chunks * rows.rows : 0);
    const ExtremumResult<T> result{values.data<T>(), to, partial.get()};
    visit_row_chunks<T>(rows, x, [&]<int kWidth, int V>(std::integer_sequence<int, kWidth, V>) {
      auto* kernel = &extremum_rows_kernel<T, kLargest, kWidth, V>;
      if constexpr (kGroups) kernel = &extremum_groups_kernel<T, kLargest, kWidth, V>;
      queue.launch_early(kernel, rows.grid(kWidth), kThreads, result, x.data<T>(), rows);
    });
    if (rows.chunks > 1)
      queue.launch_early(&extremum_join_kernel<T, kLargest>, rows.rows, kThreads, result,
                         x.data<T>(), rows.rows, rows.n, rows.chunks);
  };
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    if (largest) run.template operator()<T, true>();
    else run.template operator()<T, false>();
  });
}

}  // namespace vt::cuda
