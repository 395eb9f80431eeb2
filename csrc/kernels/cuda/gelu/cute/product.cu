// Which products with GELU go to the kernels made here, and the sums of columns behind them.
#include "kernels/cuda/gelu/product.h"

#include "kernels/cuda/architecture.h"
#include "kernels/cuda/gelu/cute/launch.h"
#include "kernels/settings.h"

namespace vt::cuda {
namespace {

using namespace gelu;

constexpr int kColumns = 32, kLanes = 16;  // a block that adds up tiles

// out[column] = the sum of all tiles' sums, in their order within a lane, then lane by lane.
template <class T>
__global__ void __launch_bounds__(kColumns* kLanes)
    add_tiles_kernel(T* out, const float* sums, int64_t tiles, int64_t width, int64_t n) {
  await_earlier();
  __shared__ float parts[kLanes][kColumns];
  const int64_t column = int64_t{blockIdx.x} * kColumns + threadIdx.x;
  float sum = 0;
#pragma unroll 4
  for (int64_t tile = threadIdx.y; tile < tiles; tile += kLanes)
    sum += sums[tile * width + column];  // width is a multiple of kColumns
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= n) return;
#pragma unroll
  for (int lane = 1; lane < kLanes; ++lane) sum += parts[lane][threadIdx.x];
  out[column] = convert<T>(sum);
}

// Rows of whole 16-byte lines, which TMA asks for.
bool is_lines(const void* data, int64_t row_stride, int64_t columns) {
  return is_aligned(data, 16) && row_stride % 8 == 0 && row_stride >= columns;
}

bool takes_operands(const Gemm& g) {
  constexpr int64_t kMost = 0x7fffffff;
  if (!is_half(g.dtype) || g.batch != 1 || g.alpha != 1 || g.beta != 0 || g.m > kMost ||
      g.n > kMost || g.k > kMost || g.n % 8 != 0 || g.k % 8 != 0)
    return false;
  if (!(g.a.column_stride == 1 && is_lines(g.a.data, g.a.row_stride, g.k)) ||
      !is_lines(g.out.data, g.out.row_stride, g.n) ||
      (g.aux.data && !is_lines(g.aux.data, g.aux.row_stride, g.n)) || !is_aligned(g.bias, 16))
    return false;
  // A layer's weight lies along k on its way forward, along n on its way back.
  if (g.epilogue == GemmEpilogue::kGelu)
    return g.b.row_stride == 1 && is_lines(g.b.data, g.b.column_stride, g.k);
  return !g.bias && g.b.column_stride == 1 && is_lines(g.b.data, g.b.row_stride, g.n);
}

// Enough tiles to keep the GPU busy: below that the choice of smaller ones counts for more.
bool pays(const Gemm& g, int multiprocessors) {
  return ceil_div(g.m, kTileRows) * ceil_div(g.n, kTileColumns) >= 2 * multiprocessors;
}

template <class T>
void run(const Queue& queue, const Gemm& g) {
  if (g.epilogue == GemmEpilogue::kGelu) return launch_forward<T>(queue, g);
  const int64_t tiles = ceil_div(g.m, kTileRows);
  const int64_t width = ceil_div(g.n, kTileColumns) * kTileColumns;
  const Scratch<float> sums(queue, g.column_sums ? tiles * width : 0);
  launch_backward<T>(queue, g, sums.get());
  if (!g.column_sums) return;
  queue.launch_early(&add_tiles_kernel<T>, dim3(static_cast<unsigned>(ceil_div(g.n, kColumns))),
                     dim3(kColumns, kLanes), static_cast<T*>(g.column_sums), sums.get(), tiles,
                     width, g.n);
}

}  // namespace

bool gelu_product(const Gemm& g) {
  if (g.epilogue == GemmEpilogue::kNone || !kernel_settings().own_gelu_products ||
      !takes_operands(g))
    return false;
  const Queue queue("matmul", g.device);
  if (!has_wgmma(queue.index()) || !pays(g, queue.multiprocessors())) return false;
  if (g.dtype == DType::kBF16) run<BFloat16>(queue, g);
  else run<Half>(queue, g);
  return true;
}

}  // namespace vt::cuda

namespace vt {

bool has_gelu_products() { return true; }

}  // namespace vt
