// Running sums along one dimension.
#include "kernels/cuda/architecture.h"
#include "kernels/cuda/packs.h"
#include "kernels/cuda/reduce_ops.h"
#include "kernels/cuda/row_chunks.h"
#include "kernels/cuda/scan_ring.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

// The running sum of a tile of kThreads threads with kItems neighbouring elements each: `items`
// become sums from the tile's begin on, the tile's total is returned.
template <int kItems, class A>
__device__ __forceinline__ A scan_tile(A (&items)[kItems]) {
  __shared__ A warp_sums[kThreads / kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
  for (int j = 1; j < kItems; ++j) items[j] += items[j - 1];
  A running = items[kItems - 1];
#pragma unroll
  for (int d = 1; d < kWarp; d *= 2) {
    const A other = __shfl_up_sync(0xffffffffu, running, d);
    if (lane >= d) running += other;
  }
  __syncthreads();  // the sums of an earlier call are read
  if (lane == kWarp - 1) warp_sums[warp] = running;
  const A left = __shfl_up_sync(0xffffffffu, running, 1);
  __syncthreads();
  A before = lane > 0 ? left : A(0), total = 0;
#pragma unroll
  for (int w = 0; w < kThreads / kWarp; ++w) {
    if (w < warp) before += warp_sums[w];
    total += warp_sums[w];
  }
#pragma unroll
  for (int j = 0; j < kItems; ++j) items[j] += before;
  return total;
}

// One block a row or chunk of it, a tile at a time; the tile's total is carried on. carries [row]
// [chunk]: what comes before each chunk, or null.
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    cumsum_rows_kernel(T* out, const T* x, const sum_t<T>* carries, RowChunks rows) {
  await_earlier();
  using A = sum_t<T>;
  constexpr int kItems = V > 4 ? V : 4, kPacks = kItems / V;
  const int64_t row = blockIdx.x, begin = rows.begin(blockIdx.y), end = rows.end(blockIdx.y);
  x += row * rows.n;
  out += row * rows.n;
  A carry = carries ? carries[row * rows.chunks + blockIdx.y] : A(0);
  for (int64_t tile = begin; tile < end; tile += kThreads * kItems) {
    const int64_t first = tile + threadIdx.x * kItems;
    A items[kItems];
    const bool whole = V > 1 && first + kItems <= end;
    if (whole) {
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
        const auto pack = *reinterpret_cast<const Pack<T, V>*>(x + first + p * V);
#pragma unroll
        for (int j = 0; j < V; ++j) items[p * V + j] = convert<A>(pack.v[j]);
      }
    } else {
#pragma unroll
      for (int j = 0; j < kItems; ++j) items[j] = first + j < end ? convert<A>(x[first + j]) : A(0);
    }
    const A total = scan_tile(items);
    if (whole) {
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
        Pack<T, V> pack;
#pragma unroll
        for (int j = 0; j < V; ++j) pack.v[j] = convert<T>(carry + items[p * V + j]);
        *reinterpret_cast<Pack<T, V>*>(out + first + p * V) = pack;
      }
    } else {
#pragma unroll
      for (int j = 0; j < kItems; ++j)
        if (first + j < end) out[first + j] = convert<T>(carry + items[j]);
    }
    carry += total;
  }
}

// sums [row][chunk] of each chunk, a block each.
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    chunk_sums_kernel(sum_t<T>* sums, const T* x, RowChunks rows) {
  await_earlier();
  using A = sum_t<T>;
  const int64_t row = blockIdx.x, begin = rows.begin(blockIdx.y), end = rows.end(blockIdx.y);
  x += row * rows.n;
  A sum = 0;
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x * V; i < end; i += kThreads * V) {
    if (i + V <= end) {
      const auto pack = *reinterpret_cast<const Pack<T, V>*>(x + i);
#pragma unroll
      for (int j = 0; j < V; ++j) sum += convert<A>(pack.v[j]);
    } else {
      for (int64_t k = i; k < end; ++k) sum += convert<A>(x[k]);
    }
  }
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) sums[row * rows.chunks + blockIdx.y] = sum;
}

// sums become what comes before each chunk; a block a row.
template <class A>
__global__ void __launch_bounds__(kThreads) chunk_carries_kernel(A* sums, int chunks) {
  await_earlier();
  sums += int64_t{blockIdx.x} * chunks;
  A carry = 0;
  for (int tile = 0; tile < chunks; tile += kThreads) {
    const int c = tile + threadIdx.x;
    A items[1] = {c < chunks ? sums[c] : A(0)};
    const A total = scan_tile(items);
    // The sum up to its left neighbour, not the own sum less itself: those differ in rounding.
    const A left = __shfl_up_sync(0xffffffffu, items[0], 1);
    __shared__ A last[kThreads / kWarp];
    __syncthreads();
    if (threadIdx.x % kWarp == kWarp - 1) last[threadIdx.x / kWarp] = items[0];
    __syncthreads();
    A before = left;
    if (threadIdx.x % kWarp == 0) before = threadIdx.x == 0 ? A(0) : last[threadIdx.x / kWarp - 1];
    if (c < chunks) sums[c] = carry + before;
    carry += total;
  }
}

// Running sums of few long rows, which are read once.
template <class T>
void cumsum_once(const Queue& queue, const Tensor& out, const Tensor& x, const RowChunks& rows) {
  const int64_t tiles = ceil_div(rows.n, int64_t{RingScan<T>::kTile});
  const int64_t count = TileSums::words_for(rows.rows, tiles);
  const Scratch<uint64_t> words(queue, count);
  VT_CUDA(cudaMemsetAsync(words.get(), 0, static_cast<size_t>(count) * sizeof(uint64_t),
                          queue.stream()));
  auto* kernel = &cumsum_ring_kernel<T>;
  queue.allow_shared(reinterpret_cast<const void*>(kernel), ScanRing::kShared);
  queue.launch_shared<Start::kEarly>(
      kernel, std::min<int64_t>(rows.rows * tiles, queue.multiprocessors()), ScanRing::kBlock,
      ScanRing::kShared, out.data<T>(), x.data<T>(),
      TileSums{words.get(), rows.rows, static_cast<int>(tiles),
               static_cast<int>(ceil_div(tiles, TileSums::kGroup))},
      rows.n);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    cumsum_lines_kernel(T* out, const T* x, int64_t lines, int64_t n, int64_t inner) {
  await_earlier();
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

void cumsum(const Tensor& out, const Tensor& x, int dim) {
  if (x.numel() == 0) return;
  const Queue queue("cumsum", x.device());
  const Lines lines(x.sizes(), dim);
  auto in_rows = [&]<class T>() {
    using A = sum_t<T>;
    constexpr int kVector = 16 / sizeof(T);
    RowChunks rows(lines.outer, lines.n);
    auto launch = [&]<int V>(std::integral_constant<int, V>) {
      // In 16 bits, of which less is read twice, the ring is slower.
      if constexpr (std::is_same_v<T, float> && V > 1)
        if (rows.chunks > 1 && has_wgmma(queue.index())) return cumsum_once<T>(queue, out, x, rows);
      const Scratch<A> carries(queue, rows.chunks > 1 ? rows.rows * rows.chunks : 0);
      const dim3 grid = rows.grid(kThreads);
      if (rows.chunks > 1) {
        queue.launch_early(&chunk_sums_kernel<T, V>, grid, kThreads, carries.get(), x.data<T>(),
                           rows);
        queue.launch_early(&chunk_carries_kernel<A>, rows.rows, kThreads, carries.get(),
                           rows.chunks);
      }
      queue.launch_early(&cumsum_rows_kernel<T, V>, grid, kThreads, out.data<T>(), x.data<T>(),
                         carries.get(), rows);
    };
    const bool packed = is_aligned(x.data(), 16) && is_aligned(out.data(), 16) &&
                        (rows.rows == 1 || rows.n % kVector == 0);
    if (packed) launch(std::integral_constant<int, kVector>{});
    else launch(std::integral_constant<int, 1>{});
  };
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    if (lines.inner > 1 || lines.n <= 16)
      queue.launch_early(&cumsum_lines_kernel<T>, ceil_div(lines.count(), kThreads), kThreads,
                         out.data<T>(), x.data<T>(), lines.count(), lines.n, lines.inner);
    else return in_rows.template operator()<T>();
  });
}

}  // namespace vt::cuda
