// Which products with GELU go to the kernels made here, and the sums of columns behind them.
#include "kernels/cuda/gelu/product.h"

#include "kernels/cuda/architecture.h"
#include "kernels/cuda/gelu/cute/launch.h"
#include "kernels/settings.h"

namespace vt::cuda {
namespace {

using namespace gelu;

constexpr int kAcross = 32, kLanes = 32;  // a block that adds up tiles

// out[column] = the sum of `count` rows of sums: a lane's in their order, then lane by lane.
template <class T>
__global__ void __launch_bounds__(kAcross* kLanes)
    add_tiles_kernel(T* out, const float* sums, int64_t count, int64_t width, int64_t n) {
  await_earlier();
  __shared__ float parts[kLanes][kAcross];
  const int64_t column = int64_t{blockIdx.x} * kAcross + threadIdx.x;
  float sum = 0;
#pragma unroll 8
  for (int64_t row = threadIdx.y; row < count; row += kLanes)
    sum += sums[row * width + column];  // width is a multiple of kAcross
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

int64_t tiles_of(const Gemm& g, int columns) {
  return ceil_div(g.m, kTileRows) * ceil_div(g.n, columns);
}

// Rules from times on an H200 (benchmarks/kernels/gelu_products.py). Few tiles are better off with
// cuBLASLt's smaller ones, unless sums of columns would then be a kernel of their own.
bool pays(const Gemm& g, int multiprocessors) {
  const int64_t tiles = tiles_of(g, kColumns);
  if (g.epilogue == GemmEpilogue::kGelu) return tiles >= 2 * multiprocessors;
  return tiles >= (g.column_sums ? multiprocessors / 2 : multiprocessors);
}

// Wide tiles read less, but must fit.
bool is_wide(const Gemm& g, int multiprocessors) {
  const int64_t columns = ceil_div(g.n, kManyColumns) * kManyColumns;
  return columns == g.n ||
         (columns * 20 <= g.n * 21 && tiles_of(g, kManyColumns) >= 4 * multiprocessors);
}

template <class T, int kTileColumns>
void run(const Queue& queue, const Gemm& g) {
  if (g.epilogue == GemmEpilogue::kGelu) return launch_forward<T, kTileColumns>(queue, g);
  const int64_t count = ceil_div(g.m, kTileRows) * kSumsOfTile;
  const int64_t width = ceil_div(g.n, kTileColumns) * kTileColumns;
  const Scratch<float> sums(queue, g.column_sums ? count * width : 0);
  launch_backward<T, kTileColumns>(queue, g, sums.get());
  if (!g.column_sums) return;
  queue.launch_early(&add_tiles_kernel<T>, dim3(static_cast<unsigned>(ceil_div(g.n, kAcross))),
                     dim3(kAcross, kLanes), static_cast<T*>(g.column_sums), sums.get(), count,
                     width, g.n);
}

}  // namespace

bool gelu_product(const Gemm& g) {
  if (g.epilogue == GemmEpilogue::kNone || !kernel_settings().own_gelu_products ||
      !takes_operands(g))
    return false;
  const Queue queue("matmul", g.device);
  if (!has_wgmma(queue.index()) || !pays(g, queue.multiprocessors())) return false;
  if (g.dtype == DType::kF16) run<Half, kColumns>(queue, g);
  else if (is_wide(g, queue.multiprocessors())) run<BFloat16, kManyColumns>(queue, g);
  else run<BFloat16, kColumns>(queue, g);
  return true;
}

}  // namespace vt::cuda

namespace vt {

bool has_gelu_products() { return true; }

}  // namespace vt
