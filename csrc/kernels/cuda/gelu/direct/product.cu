// Launches of products that are stored from registers.
#include "kernels/cuda/gelu/direct/product.h"

#include "kernels/cuda/gelu/direct/kernel.h"
#include "kernels/cuda/gelu/direct/maps.h"
#include "kernels/cuda/gelu/direct/ways.h"

namespace vt::cuda::direct {
namespace {

// The right operand whose columns are neighbours in memory, in the order of Note [Columns of a
// thread]: a thread moves 32 columns of a row, two of which are one register.
__global__ void __launch_bounds__(kThreads) reorder_kernel(uint4* out, const uint4* in, int count) {
  await_earlier();
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= count) return;
  uint4 q[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) q[j] = in[i * 4 + j];
#pragma unroll
  for (int j = 0; j < 4; ++j)
    out[i * 4 + j] = {part(q[0], j), part(q[1], j), part(q[2], j), part(q[3], j)};
}

template <class Way>
void launch_way(const Queue& queue, const Job& job) {
  const int clusters = std::min(job.pairs, queue.multiprocessors() / kBlocks);
  queue.allow_shared(reinterpret_cast<const void*>(&product_kernel<Way>), kSharedBytes);
  queue.launch_clusters_shared(&product_kernel<Way>,
                               dim3(static_cast<unsigned>(clusters * kBlocks)), dim3(kThreads),
                               kSharedBytes, kBlocks, job);
}

bool fits(int64_t rows, int64_t stride) {
  return stride < (int64_t{1} << 31) && rows * stride < (int64_t{1} << 32);
}

}  // namespace

bool takes(const Gemm& g) {
  const bool times = g.epilogue == GemmEpilogue::kTimes;
  const bool slope = g.epilogue == GemmEpilogue::kGeluSlope;
  if (g.dtype != DType::kBF16 || g.n % kColumns != 0 || g.row_sums) return false;
  if (!times && !slope && (g.epilogue != GemmEpilogue::kNone || g.column_sums)) return false;
  const int64_t rows = ceil_div(g.m, int64_t{kRows * kBlocks}) * kRows * kBlocks;
  if (!fits(rows, g.out.row_stride) || ((times || slope) && !fits(rows, g.aux.row_stride)))
    return false;
  if (g.addend && (times || slope)) return false;
  return times ? g.b.row_stride == g.n && g.n * g.k < (int64_t{1} << 31) : g.b.row_stride == 1;
}

void launch(const Queue& queue, const Gemm& g, float* sums) {
  const auto size = [](int64_t x) { return static_cast<int>(x); };
  Job job{};
  job.left = left_map(g.a, g.m, g.k);
  job.m = size(g.m);
  job.tiles_of_n = size(g.n / kColumns);
  job.pairs = size(ceil_div(g.m, kRows * kBlocks)) * job.tiles_of_n;
  job.steps = size(ceil_div(g.k, kDepth));
  job.bias = static_cast<const BFloat16*>(g.bias);
  job.out = static_cast<BFloat16*>(g.out.data);
  job.aux = g.aux.data;
  job.addend = static_cast<const BFloat16*>(g.addend);
  job.sums = sums;
  job.out_stride = static_cast<uint32_t>(g.out.row_stride);
  job.aux_stride = static_cast<uint32_t>(g.aux.row_stride);
  job.sums_stride = static_cast<uint32_t>(g.n);
  if (g.epilogue == GemmEpilogue::kTimes) {
    const Scratch<BFloat16> right(queue, g.n * g.k);
    const int count = size(g.n * g.k / kGroup), threads = 128;
    queue.launch_early(&reorder_kernel, dim3(static_cast<unsigned>(ceil_div(count, threads))),
                       dim3(threads), reinterpret_cast<uint4*>(right.get()),
                       static_cast<const uint4*>(g.b.data), count);
    job.right = right_map_along_columns(right.get(), g.n, g.k);
    launch_way<Times>(queue, job);
    return;
  }
  job.right = right_map(g.b, g.n, g.k);
  if (g.epilogue == GemmEpilogue::kGeluSlope) launch_way<Linear<Then::kGeluSlope>>(queue, job);
  else if (g.addend) launch_way<Linear<Then::kAdd>>(queue, job);
  else launch_way<Linear<Then::kNothing>>(queue, job);
}

}  // namespace vt::cuda::direct
