// The variance of rows in one walk. A row is cut into chunks where there are few rows; a second
// kernel joins them.
#include "kernels/cuda/block.h"
#include "kernels/cuda/moments.h"
#include "kernels/cuda/packs.h"
#include "kernels/cuda/row_chunks.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

constexpr int kBlocks = 4;  // of a multiprocessor, all of which run at once

template <class T>
struct VarianceResult {
  using C = compute_t<T>;
  T* out;
  C* means;
  C divisor;
  __device__ __forceinline__ void store(int64_t row, Moments<C> moments) const {
    means[row] = moments.mean;
    out[row] = convert<T>(moments.squares / divisor);
  }
};

// kWidth threads a row or chunk of it; its moments go to partial[chunk][row] where that is given.
template <class T, int kWidth, int V>
__global__ void __launch_bounds__(kThreads, sizeof(T) <= 4 ? kBlocks : 1)
    variance_kernel(VarianceResult<T> result, Moments<compute_t<T>>* partial, const T* x,
                    RowChunks rows) {
  await_earlier();
  using C = compute_t<T>;
  const int64_t row = int64_t{blockIdx.x} * (kThreads / kWidth) + threadIdx.x / kWidth;
  if (row >= rows.rows) return;
  const int64_t begin = rows.begin(blockIdx.y);
  const T* from = x + row * rows.n + begin;
  const int end = static_cast<int>(rows.end(blockIdx.y) - begin);
  constexpr int kTogether = 4, kStep = kWidth * V;
  Moments<C> moments{0, 0, 0};
  int i = threadIdx.x % kWidth * V;
  using Packs = Pack<T, V>[kTogether];
  auto load = [&](Packs& packs, int at) {
#pragma unroll
    for (int u = 0; u < kTogether; ++u)
      packs[u] = *reinterpret_cast<const Pack<T, V>*>(from + at + u * kStep);
  };
  auto add = [&](const Packs& packs) {
    C values[kTogether * V];
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      const Pack<C, V> wide = widen<C>(packs[u]);
#pragma unroll
      for (int j = 0; j < V; ++j) values[u * V + j] = wide.v[j];
    }
    moments = JoinMoments{}(moments, moments_of(values));
  };
  auto fits = [&](int at) { return at <= end - ((kTogether - 1) * kStep + V); };
  if (fits(i)) {
    Packs packs;
    load(packs, i);
    // The next ones are on their way while these are added up.
    for (i += kTogether * kStep; fits(i); i += kTogether * kStep) {
      Packs ahead;
      load(ahead, i);
      add(packs);
#pragma unroll
      for (int u = 0; u < kTogether; ++u) packs[u] = ahead[u];
    }
    add(packs);
  }
  for (; i < end; i += kStep) {
    for (int j = 0; j < V && i + j < end; ++j) {
      const C value = convert<C>(from[i + j]);
      moments = JoinMoments{}(moments, Moments<C>{1, value, value - value});
    }
  }
  moments = kWidth == kWarp ? warp_reduce(moments, JoinMoments{})
                            : block_reduce<kThreads>(moments, JoinMoments{});
  if (threadIdx.x % kWidth != 0) return;
  if (partial) partial[blockIdx.y * rows.rows + row] = moments;
  else result.store(row, moments);
}

// A block a row.
template <class T>
__global__ void __launch_bounds__(kThreads)
    variance_join_kernel(VarianceResult<T> result, const Moments<compute_t<T>>* partial,
                         int64_t rows, int chunks) {
  await_earlier();
  Moments<compute_t<T>> moments{0, 0, 0};
  constexpr int kTogether = 3;  // that are on their way at once
  for (int first = threadIdx.x; first < chunks; first += kTogether * kThreads) {
    Moments<compute_t<T>> parts[kTogether];
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      const int c = first + u * kThreads;
      parts[u] = partial[(c < chunks ? c : 0) * rows + blockIdx.x];
    }
#pragma unroll
    for (int u = 0; u < kTogether; ++u)
      if (first + u * kThreads < chunks) moments = JoinMoments{}(moments, parts[u]);
  }
  moments = block_reduce<kThreads>(moments, JoinMoments{});
  if (threadIdx.x == 0) result.store(blockIdx.x, moments);
}

}  // namespace

void variance(const Tensor& out, const Tensor& mean, const Tensor& x, double correction) {
  const int64_t n = x.sizes()[1];
  // Like PyTorch: too few elements give 0 / 0 or a division by 0, not an error.
  const double divisor = std::max(0.0, static_cast<double>(n) - correction);
  const Queue queue("var", x.device());
  visit_float("var", x.dtype(), [&]<class T>(TypeTag<T>) {
    using C = compute_t<T>;
    const RowChunks rows(x.sizes()[0], n, int64_t{queue.multiprocessors()} * kBlocks);
    const VarianceResult<T> result{out.data<T>(), mean.data<C>(), static_cast<C>(divisor)};
    const Scratch<Moments<C>> partial(queue, rows.chunks > 1 ? rows.chunks * rows.rows : 0);
    visit_row_chunks<T>(rows, x, [&]<int kWidth, int V>(std::integer_sequence<int, kWidth, V>) {
      queue.launch_early(&variance_kernel<T, kWidth, V>, rows.grid(kWidth), kThreads, result,
                         partial.get(), x.data<T>(), rows);
    });
    if (rows.chunks > 1)
      queue.launch_early(&variance_join_kernel<T>, rows.rows, kThreads, result, partial.get(),
                         rows.rows, rows.chunks);
  });
}

}  // namespace vt::cuda
