// Reductions over any set of dimensions of a strided tensor. The order of every sum depends on the
// shape only.
//
// Where the reduced elements lie closest together, the threads of a warp or block walk along them
// ("rows"); where the kept ones do, each thread keeps an output of its own ("columns"). Either is
// split into chunks when there are too few outputs to fill the GPU; a second kernel then reduces
// the chunks.
#include <algorithm>

#include "kernels/cuda/packs.h"
#include "kernels/cuda/reduce_ops.h"
#include "kernels/cuda/reduce_short.h"
#include "kernels/cuda/walk.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

constexpr int kRowBlocks = 6;  // of a multiprocessor, all of which run at once
constexpr int64_t kWantedBlocks = 132 * kRowBlocks;  // on as many as an H100 or H200 has
constexpr int64_t kWantedColumnBlocks = 528;         // as many as run at once: their work is even
constexpr int kColumns = 32, kColumnRows = 8;        // a block in column order
constexpr int64_t kManyRows = 4096;                  // enough for one warp each
constexpr int64_t kMostForClusters = 40 << 20;       // bytes
constexpr int64_t kMostClusterBlocks = 128;          // one a multiprocessor

// Where results go: to the output, or as accumulators to partial[chunk][output].
template <class Op>
struct Target {
  typename Op::Out* out;
  typename Op::Acc* partial;  // null: there is one chunk
  int64_t outputs, chunk;     // chunk: reduced elements each

  __device__ void store(const Op& op, int64_t output, typename Op::Acc value) const {
    if (partial) partial[int64_t{blockIdx.y} * outputs + output] = value;
    else out[output] = op.finish(value);
  }
};

// kWidth threads an output. Packs of V elements where the reduced ones are dense and aligned (V is
// 1 otherwise).
template <class T, class Op, int kWidth, int V>
__global__ void __launch_bounds__(kThreads, sizeof(typename Op::Acc) <= 4 ? kRowBlocks : 1)
    reduce_rows_kernel(const T* x, Op op, Target<Op> target, WalkMap kept, WalkMap reduced,
                       int64_t count) {
  await_earlier();
  using Acc = typename Op::Acc;
  const int64_t output = int64_t{blockIdx.x} * (kThreads / kWidth) + threadIdx.x / kWidth;
  const bool active = output < target.outputs;
  const int64_t begin = int64_t{blockIdx.y} * target.chunk;
  const int64_t end = begin + target.chunk < count ? begin + target.chunk : count;
  const T* base = x + (active ? kept.at(output) : 0);
  const auto place = [&](int64_t i) {
    if constexpr (V > 1) return i;
    else return reduced.at(i);
  };
  constexpr int kUnroll = 4;
  Acc sums[kUnroll];
#pragma unroll
  for (Acc& sum : sums) sum = op.identity();
  int64_t i = begin + threadIdx.x % kWidth * V;
  constexpr int64_t kStep = kWidth * V;
  if (active) {
    for (; i + (kUnroll - 1) * kStep + V <= end; i += kUnroll * kStep) {
      Pack<T, V> packs[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u)
        packs[u] = *reinterpret_cast<const Pack<T, V>*>(base + place(i + u * kStep));
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const auto values = mapped(op, packs[u]);
        Acc sum = values.v[0];  // which does not wait for what came before
#pragma unroll
        for (int j = 1; j < V; ++j) sum = op(sum, values.v[j]);
        sums[u] = op(sums[u], sum);
      }
    }
    for (; i + V <= end; i += kStep) {
      const auto values = mapped(op, *reinterpret_cast<const Pack<T, V>*>(base + place(i)));
#pragma unroll
      for (int j = 0; j < V; ++j) sums[0] = op(sums[0], values.v[j]);
    }
    for (; i < end; ++i) sums[1] = op(sums[1], mapped(op, Pack<T, 1>{{base[place(i)]}}).v[0]);
  }
  Acc total = op(op(sums[0], sums[1]), op(sums[2], sums[3]));
  total = kWidth == kWarp ? warp_reduce(total, op) : block_reduce<kThreads>(total, op);
  if (active && threadIdx.x % kWidth == 0) target.store(op, output, total);
}

// Each thread keeps V neighbouring outputs, whose elements it reads in one go.
template <class T, class Op, int V>
__global__ void __launch_bounds__(kColumns* kColumnRows)
    reduce_columns_kernel(const T* x, Op op, Target<Op> target, WalkMap kept, WalkMap reduced,
                          int64_t count) {
  await_earlier();
  using Acc = typename Op::Acc;
  constexpr int kHeld = V < 4 ? V : 4;  // outputs that meet in shared memory at once
  __shared__ alignas(16) char storage[kHeld * kColumnRows * kColumns * sizeof(Acc)];
  Acc(*parts)[kColumnRows][kColumns] = reinterpret_cast<Acc(*)[kColumnRows][kColumns]>(storage);
  const int64_t output = (int64_t{blockIdx.x} * kColumns + threadIdx.x) * V;
  const bool active = output < target.outputs;
  const int64_t begin = int64_t{blockIdx.y} * target.chunk;
  const int64_t end = begin + target.chunk < count ? begin + target.chunk : count;
  const T* base = x + (active ? kept.at(output) : 0);
  Acc sums[V];
#pragma unroll
  for (Acc& sum : sums) sum = op.identity();
  const auto add = [&](const Pack<T, V>& pack) {
    const auto values = mapped(op, pack);
#pragma unroll
    for (int j = 0; j < V; ++j) sums[j] = op(sums[j], values.v[j]);
  };
  const auto walk = [&](auto&& offset) {
    const auto load = [&](int64_t i) {
      return *reinterpret_cast<const Pack<T, V>*>(base + offset(i));
    };
    constexpr int kTogether = 8;  // loads that are on their way at once
    int64_t i = begin + threadIdx.y;
    for (; i + (kTogether - 1) * kColumnRows < end; i += kTogether * kColumnRows) {
      Pack<T, V> packs[kTogether];
#pragma unroll
      for (int u = 0; u < kTogether; ++u) packs[u] = load(i + u * kColumnRows);
#pragma unroll
      for (int u = 0; u < kTogether; ++u) add(packs[u]);
    }
    for (; i < end; i += kColumnRows) add(load(i));
  };
  if (active && reduced.ndim <= 1) walk([&](int64_t i) { return i * reduced.strides[0]; });
  else if (active) walk([&](int64_t i) { return reduced.at(i); });
#pragma unroll
  for (int first = 0; first < V; first += kHeld) {
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kHeld; ++j) parts[j][threadIdx.y][threadIdx.x] = sums[first + j];
    __syncthreads();
    if (threadIdx.y >= kHeld || !active) continue;
    Acc sum = parts[threadIdx.y][0][threadIdx.x];
#pragma unroll
    for (int row = 1; row < kColumnRows; ++row) sum = op(sum, parts[threadIdx.y][row][threadIdx.x]);
    target.store(op, output + first + threadIdx.y, sum);
  }
}

// partial is [chunks][outputs].
template <class Op>
__global__ void __launch_bounds__(kColumns* kColumnRows)
    reduce_chunks_kernel(const typename Op::Acc* partial, Op op, typename Op::Out* out,
                         int64_t outputs, int chunks) {
  await_earlier();
  using Acc = typename Op::Acc;
  __shared__ alignas(16) char storage[kColumnRows * kColumns * sizeof(Acc)];
  Acc(*parts)[kColumns] = reinterpret_cast<Acc(*)[kColumns]>(storage);
  const int64_t output = int64_t{blockIdx.x} * kColumns + threadIdx.x;
  Acc sum = op.identity();
  if (output < outputs)
    sum = combine_strided<16>(
        sum, threadIdx.y, chunks, kColumnRows, [&](int c) { return partial[c * outputs + output]; },
        op);
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || output >= outputs) return;
#pragma unroll
  for (int row = 1; row < kColumnRows; ++row) sum = op(sum, parts[row][threadIdx.x]);
  out[output] = op.finish(sum);
}

// The same where there are few outputs: a block each.
template <class Op>
__global__ void __launch_bounds__(kThreads)
    reduce_few_chunks_kernel(const typename Op::Acc* partial, Op op, typename Op::Out* out,
                             int64_t outputs, int chunks) {
  await_earlier();
  typename Op::Acc sum = op.identity();
  sum = combine_strided<5>(
      sum, threadIdx.x, chunks, kThreads, [&](int c) { return partial[c * outputs + blockIdx.x]; },
      op);
  sum = block_reduce<kThreads>(sum, op);
  if (threadIdx.x == 0) out[blockIdx.x] = op.finish(sum);
}

struct Shape {
  Walk kept, reduced;
  bool rows;    // walk along the reduced elements
  bool packed;  // 16 bytes at a time
  bool warps;   // rows: a warp each
  int64_t chunks, chunk;
};

Shape shape_of(const Tensor& x, uint32_t dims) {
  Shape shape;
  for (int d = x.dim() - 1; d >= 0; --d)
    if (!(dims >> d & 1)) shape.kept.add(x.sizes()[d], x.strides()[d]);
  // The order of the reduced dimensions is free: nearest neighbours first.
  int order[kMaxDims];
  int count = 0;
  for (int d = x.dim() - 1; d >= 0; --d)
    if (dims >> d & 1) order[count++] = d;
  std::stable_sort(order, order + count,
                   [&](int a, int b) { return x.strides()[a] < x.strides()[b]; });
  for (int i = 0; i < count; ++i) shape.reduced.add(x.sizes()[order[i]], x.strides()[order[i]]);

  const auto vector = static_cast<int64_t>(16 / x.item_size());
  shape.rows = shape.reduced.inner_stride() <= shape.kept.inner_stride();
  const Walk &along = shape.rows ? shape.reduced : shape.kept,
             &across = shape.rows ? shape.kept : shape.reduced;
  shape.packed = along.ndim == 1 && along.strides[0] == 1 && is_aligned(x.data(), 16) &&
                 (shape.rows || along.count % vector == 0);
  for (int d = 0; d < across.ndim; ++d) shape.packed &= across.strides[d] % vector == 0;

  const int64_t n = shape.reduced.count, outputs = shape.kept.count;
  shape.warps = n <= 1024 || outputs >= kManyRows;
  const int64_t columns = kColumns * (shape.packed ? vector : 1);
  const int64_t blocks = !shape.rows   ? ceil_div(outputs, columns)
                         : shape.warps ? ceil_div(outputs, kThreads / kWarp)
                                       : outputs;
  const int64_t least = shape.rows ? 8192 : 64;  // elements that a chunk should have
  const int64_t wanted = shape.rows ? kWantedBlocks : kWantedColumnBlocks;
  shape.chunks =
      std::clamp<int64_t>(std::min(wanted / std::max<int64_t>(blocks, 1), n / least), 1, wanted);
  shape.chunk = ceil_div(ceil_div(n, shape.chunks), 16) * 16;  // keeps packs aligned
  shape.chunks = std::max<int64_t>(ceil_div(n, std::max<int64_t>(shape.chunk, 1)), 1);
  return shape;
}

// Rows that fit a warp's registers, a kernel of one round; false: they do not.
template <class T, class Op>
bool run_short_rows(const Queue& queue, typename Op::Out* out, const T* x, const Shape& shape,
                    Op op) {
  constexpr int V = 16 / sizeof(T);
  const int64_t n = shape.reduced.count, packs = n / V, rows = shape.kept.count;
  if (!shape.rows || !shape.packed || shape.kept.ndim > 1 || n == 0 || n % V != 0 ||
      packs > 8 * kWarp || rows > std::numeric_limits<int32_t>::max())
    return false;
  auto launch = [&]<int kPacks>(std::integral_constant<int, kPacks>) {
    queue.launch_early(&reduce_short_rows_kernel<T, Op, kPacks>, ceil_div(rows, kThreads / kWarp),
                       kThreads, out, x, op, static_cast<int>(rows), static_cast<int>(packs),
                       shape.kept.ndim ? shape.kept.strides[0] : 0);
  };
  if (packs <= kWarp) launch(std::integral_constant<int, 1>{});
  else if (packs <= 2 * kWarp) launch(std::integral_constant<int, 2>{});
  else if (packs <= 4 * kWarp) launch(std::integral_constant<int, 4>{});
  else launch(std::integral_constant<int, 8>{});
  return true;
}

// Note [Columns by clusters], where that is faster than two kernels; false: it is not.
template <class T, class Op>
bool run_clusters(const Queue& queue, typename Op::Out* out, const T* x, const Shape& shape,
                  Op op) {
  constexpr bool kBuilt =
      sizeof(T) <= 4 &&
      (std::is_same_v<Op, SumReduction<T>> || std::is_same_v<Op, ExtremeReduction<T>>) &&
      is_float(DTypeOf<T>::value);
  if constexpr (kBuilt) {
    constexpr int V = 16 / sizeof(T);
    const int64_t rows = shape.reduced.count, outputs = shape.kept.count;
    if (shape.rows || !shape.packed || shape.reduced.ndim != 1 || shape.chunks == 1 ||
        rows * outputs * static_cast<int64_t>(sizeof(T)) > kMostForClusters ||
        properties(queue.index()).compute_major < 9)
      return false;
    auto launch = [&]<int kLanes>(std::integral_constant<int, kLanes>) {
      const int64_t blocks = ceil_div(outputs, kLanes * V) * kClusterBlocks;
      if (blocks > kMostClusterBlocks) return false;
      queue.launch_clusters(&reduce_columns_cluster_kernel<T, Op, kLanes>, blocks, kClusterThreads,
                            kClusterBlocks, out, x, op, static_cast<int>(rows),
                            static_cast<int>(outputs), shape.reduced.strides[0]);
      return true;
    };
    return launch(std::integral_constant<int, 4>{}) || launch(std::integral_constant<int, 8>{}) ||
           launch(std::integral_constant<int, 16>{});
  }
  return false;
}

template <class T, class Op>
void run(const Tensor& out, const Tensor& x, uint32_t dims, Op op) {
  const Queue queue("reduce", x.device());
  const Shape shape = shape_of(x, dims);
  const int64_t outputs = shape.kept.count, count = shape.reduced.count;
  auto* to = out.data<typename Op::Out>();
  if (run_short_rows<T>(queue, to, x.data<T>(), shape, op) ||
      run_clusters<T>(queue, to, x.data<T>(), shape, op))
    return;
  const Scratch<typename Op::Acc> partial(queue, shape.chunks > 1 ? shape.chunks * outputs : 0);
  const Target<Op> target{to, partial.get(), outputs, shape.chunk};
  const WalkMap kept(shape.kept), reduced(shape.reduced);
  const auto chunks = static_cast<unsigned>(shape.chunks);
  auto rows = [&]<int kWidth, int V>(std::integer_sequence<int, kWidth, V>) {
    queue.launch_early(&reduce_rows_kernel<T, Op, kWidth, V>,
                       dim3(static_cast<unsigned>(ceil_div(outputs, kThreads / kWidth)), chunks),
                       kThreads, x.data<T>(), op, target, kept, reduced, count);
  };
  constexpr int V = 16 / sizeof(T);
  auto columns = [&]<int kVector>(std::integral_constant<int, kVector>) {
    queue.launch_early(&reduce_columns_kernel<T, Op, kVector>,
                       dim3(static_cast<unsigned>(ceil_div(outputs, kColumns * kVector)), chunks),
                       dim3(kColumns, kColumnRows), x.data<T>(), op, target, kept, reduced, count);
  };
  if (!shape.rows) {
    if (shape.packed) columns(std::integral_constant<int, V>{});
    else columns(std::integral_constant<int, 1>{});
  } else if (shape.warps) {
    if (shape.packed) rows(std::integer_sequence<int, kWarp, V>{});
    else rows(std::integer_sequence<int, kWarp, 1>{});
  } else {
    if (shape.packed) rows(std::integer_sequence<int, kThreads, V>{});
    else rows(std::integer_sequence<int, kThreads, 1>{});
  }
  if (chunks == 1) return;
  if (outputs < kThreads)
    queue.launch_early(&reduce_few_chunks_kernel<Op>, outputs, kThreads, partial.get(), op, to,
                       outputs, chunks);
  else
    queue.launch_early(&reduce_chunks_kernel<Op>, ceil_div(outputs, kColumns),
                       dim3(kColumns, kColumnRows), partial.get(), op, to, outputs, chunks);
}

}  // namespace

void reduce(const Tensor& out, const Tensor& x, ReduceKind kind, uint32_t dims) {
  if (out.numel() == 0) return;
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    switch (kind) {
      case ReduceKind::kSum: return run<T>(out, x, dims, SumReduction<T>{});
      case ReduceKind::kMean: {
        const double count = static_cast<double>(x.numel()) / static_cast<double>(out.numel());
        return run<T>(out, x, dims, SumReduction<T>{count});
      }
      case ReduceKind::kProd: return run<T>(out, x, dims, ProductReduction<T>{});
      case ReduceKind::kMax: return run<T>(out, x, dims, ExtremeReduction<T>{true});
      case ReduceKind::kMin: return run<T>(out, x, dims, ExtremeReduction<T>{false});
      case ReduceKind::kAny: return run<T>(out, x, dims, TruthReduction<T>{false});
      case ReduceKind::kAll: return run<T>(out, x, dims, TruthReduction<T>{true});
    }
  });
}

}  // namespace vt::cuda
