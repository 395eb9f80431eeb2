// Along one dimension: running sums, and the largest or smallest element with its index.
#include "kernels/cuda/reduce_ops.h"
#include "kernels/cuda/rows.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

template <class C>
struct Candidate {
  C value;
  int64_t index;
};

// The better of two: NaN first, then the larger (smaller) value, then the smaller index.
struct BetterOp {
  bool largest;
  template <class C>
  __device__ Candidate<C> operator()(Candidate<C> a, Candidate<C> b) const {
    bool first = a.index < b.index;
    if constexpr (std::is_floating_point_v<C>) {
      const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
      if (a_nan != b_nan) return a_nan ? a : b;
      if (!a_nan && a.value != b.value) first = largest == (a.value > b.value);
    } else {
      if (a.value != b.value) first = largest == (a.value > b.value);
    }
    return first ? a : b;
  }
};

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    extremum_rows_kernel(T* values, int64_t* indices, const T* x, int64_t rows, int64_t n,
                         bool largest) {
  using C = compute_t<T>;
  const int64_t row = row_of_group<kWidth>();
  if (row >= rows) return;
  const int lane = threadIdx.x % kWidth;
  x += row * n;
  const BetterOp better{largest};
  // Lanes without an element of their own repeat the first one, which changes nothing.
  Candidate<C> best{convert<C>(x[0]), 0};
#pragma unroll 4
  for (int64_t i = lane; i < n; i += kWidth) best = better(best, Candidate<C>{convert<C>(x[i]), i});
  best = group_reduce<kWidth>(best, better);
  if (lane != 0) return;
  values[row] = x[best.index];
  indices[row] = best.index;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    extremum_lines_kernel(T* values, int64_t* indices, const T* x, int64_t lines, int64_t n,
                          int64_t inner, bool largest) {
  using C = compute_t<T>;
  const int64_t line = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (line >= lines) return;
  x += line / inner * n * inner + line % inner;
  const BetterOp better{largest};
  Candidate<C> best{convert<C>(x[0]), 0};
  for (int64_t i = 1; i < n; ++i) best = better(best, Candidate<C>{convert<C>(x[i * inner]), i});
  values[line] = x[best.index * inner];
  indices[line] = best.index;
}

constexpr int kScanItems = 4;

// One block a row, a tile of kThreads * kScanItems at a time; the tile's total is carried on.
template <class T>
__global__ void __launch_bounds__(kThreads) cumsum_rows_kernel(T* out, const T* x, int64_t n) {
  using A = sum_t<T>;
  __shared__ A warp_sums[kThreads / kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  x += blockIdx.x * n;
  out += blockIdx.x * n;
  A carry = 0;
  for (int64_t tile = 0; tile < n; tile += kThreads * kScanItems) {
    const int64_t begin = tile + threadIdx.x * kScanItems;
    A items[kScanItems], sum = 0;
#pragma unroll
    for (int j = 0; j < kScanItems; ++j) {
      if (begin + j < n) sum += convert<A>(x[begin + j]);
      items[j] = sum;
    }
    A running = sum;
#pragma unroll
    for (int d = 1; d < kWarp; d *= 2) {
      const A other = __shfl_up_sync(0xffffffffu, running, d);
      if (lane >= d) running += other;
    }
    if (lane == kWarp - 1) warp_sums[warp] = running;
    __syncthreads();
    A before = carry, total = carry;
    for (int w = 0; w < kThreads / kWarp; ++w) {
      if (w < warp) before += warp_sums[w];
      total += warp_sums[w];
    }
    const A left = __shfl_up_sync(0xffffffffu, running, 1);
    if (lane > 0) before += left;
#pragma unroll
    for (int j = 0; j < kScanItems; ++j)
      if (begin + j < n) out[begin + j] = convert<T>(before + items[j]);
    carry = total;
    __syncthreads();
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    cumsum_lines_kernel(T* out, const T* x, int64_t lines, int64_t n, int64_t inner) {
  using A = sum_t<T>;
  const int64_t line = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (line >= lines) return;
  const int64_t base = line / inner * n * inner + line % inner;
  A sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    sum += convert<A>(x[base + i * inner]);
    out[base + i * inner] = convert<T>(sum);
  }
}

}  // namespace

void extremum(const Tensor& values, const Tensor& indices, const Tensor& x, int dim, bool largest) {
  if (x.numel() == 0) return;
  const Queue queue(largest ? "max" : "min", x.device());
  const Lines lines(x.sizes(), dim);
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    auto* to = indices.data<int64_t>();
    if (lines.inner > 1)
      queue.launch(&extremum_lines_kernel<T>, ceil_div(lines.count(), kThreads), kThreads,
                   values.data<T>(), to, x.data<T>(), lines.count(), lines.n, lines.inner, largest);
    else if (lines.n <= kWarpRow)
      queue.launch(&extremum_rows_kernel<T, kWarp>, row_blocks<kWarp>(lines.outer), kThreads,
                   values.data<T>(), to, x.data<T>(), lines.outer, lines.n, largest);
    else
      queue.launch(&extremum_rows_kernel<T, kThreads>, lines.outer, kThreads, values.data<T>(), to,
                   x.data<T>(), lines.outer, lines.n, largest);
  });
}

void cumsum(const Tensor& out, const Tensor& x, int dim) {
  if (x.numel() == 0) return;
  const Queue queue("cumsum", x.device());
  const Lines lines(x.sizes(), dim);
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    if (lines.inner > 1 || lines.n <= 16)
      queue.launch(&cumsum_lines_kernel<T>, ceil_div(lines.count(), kThreads), kThreads,
                   out.data<T>(), x.data<T>(), lines.count(), lines.n, lines.inner);
    else
      queue.launch(&cumsum_rows_kernel<T>, lines.outer, kThreads, out.data<T>(), x.data<T>(),
                   lines.n);
  });
}

}  // namespace vt::cuda
