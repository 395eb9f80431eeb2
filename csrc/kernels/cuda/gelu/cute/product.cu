// Which products with GELU go to the kernels made here, and the sums of columns behind them.
#include "kernels/cuda/gelu/product.h"

#include "kernels/cuda/architecture.h"
#include "kernels/cuda/gelu/cute/launch.h"
#include "kernels/linear_add.h"
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
#pragma unroll 16
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

bool is_backward(const Gemm& g) {
  return g.epilogue == GemmEpilogue::kGeluBackward || g.epilogue == GemmEpilogue::kTimes;
}
// Is GELU's slope what aux holds? Such kernels are there for bfloat16 only.
bool has_slope(const Gemm& g) {
  return g.epilogue == GemmEpilogue::kGeluSlope || g.epilogue == GemmEpilogue::kTimes;
}

// Nothing but the product, as that which the gradient of a layer's input is.
bool is_plain(const Gemm& g) { return g.epilogue == GemmEpilogue::kNone && !g.bias && !g.addend; }

// All but the way that b lies.
bool takes_rows(const Gemm& g) {
  constexpr int64_t kMost = 0x7fffffff;
  if (!is_half(g.dtype) || g.batch != 1 || g.alpha != 1 || g.beta != 0 || g.m > kMost ||
      g.n > kMost || g.k > kMost || g.n % 8 != 0 || g.k % 8 != 0)
    return false;
  return g.a.column_stride == 1 && is_lines(g.a.data, g.a.row_stride, g.k) &&
         is_lines(g.out.data, g.out.row_stride, g.n) &&
         (!g.aux.data || is_lines(g.aux.data, g.aux.row_stride, g.n)) && is_aligned(g.bias, 16);
}
bool lies_along_k(const Gemm& g) {
  return g.b.row_stride == 1 && is_lines(g.b.data, g.b.column_stride, g.k);
}

bool takes_operands(const Gemm& g) {
  if (!takes_rows(g)) return false;
  // A layer's weight lies along k on its way forward, along n on its way back.
  if (!is_backward(g) && !is_plain(g)) return lies_along_k(g);
  return !g.bias && g.b.column_stride == 1 && is_lines(g.b.data, g.b.row_stride, g.n);
}

int64_t tiles_of(const Gemm& g, int columns) {
  return ceil_div(g.m, kTileRows) * ceil_div(g.n, columns);
}

// Rules from times on an H200 (benchmarks/kernels/gelu_products.py). Few tiles are better off with
// cuBLASLt's smaller ones, unless sums of columns would then be a kernel of their own.
bool pays(const Gemm& g, int multiprocessors) {
  const int64_t tiles = tiles_of(g, kColumns);
  if (!is_backward(g)) return tiles >= 2 * multiprocessors;
  return tiles >= (g.column_sums ? multiprocessors / 2 : multiprocessors);
}

// Wide tiles read less, but must fit. (With GELU's gradient and sums they leave too few registers:
// 320 us where 128 columns take 293, 32768x3072x768 at the power limit.)
bool is_wide(const Gemm& g, int multiprocessors) {
  const int64_t columns = ceil_div(g.n, kManyColumns) * kManyColumns;
  return columns == g.n ||
         (columns * 20 <= g.n * 21 && tiles_of(g, kManyColumns) >= 4 * multiprocessors);
}

// Long rows of results in whole wide tiles: there the two groups of warps in turns beat cuBLASLt's
// kernels, whose epilogue nothing hides, by 8 to 16% (H200; 32768 rows, 768 to 3072 columns and k).
// The longer k, the less there is to hide: by themselves, products of k 50304 are faster there.
bool is_for_linear(const Gemm& g, int multiprocessors) {
  constexpr int64_t kLeastK = 512, kMostK = 4096, kLeastTiles = 6;  // tiles: a multiprocessor
  if (is_plain(g) && g.k > kMostK) return false;
  return g.epilogue == GemmEpilogue::kNone && g.dtype == DType::kBF16 && !g.column_sums &&
         !g.row_sums && g.k >= kLeastK && g.n % kManyColumns == 0 &&
         tiles_of(g, kManyColumns) >= kLeastTiles * multiprocessors &&
         (!g.addend || is_lines(g.addend, g.out.row_stride, g.n));
}

template <class T, int kTileColumns, bool kSlope>
void run_backward(const Queue& queue, const Gemm& g) {
  const int64_t count = ceil_div(g.m, kTileRows) * kSumsOfTile;
  const int64_t width = ceil_div(g.n, kTileColumns) * kTileColumns;
  const Scratch<float> sums(queue, g.column_sums ? count * width : 0);
  launch_backward<T, kTileColumns, kSlope>(queue, g, sums.get());
  if (!g.column_sums) return;
  queue.launch_early(&add_tiles_kernel<T>, dim3(static_cast<unsigned>(ceil_div(g.n, kAcross))),
                     dim3(kAcross, kLanes), static_cast<T*>(g.column_sums), sums.get(), count,
                     width, g.n);
}

template <bool kSlope>
void run_forward(const Queue& queue, const Gemm& g) {
  if (is_wide(g, queue.multiprocessors())) launch_forward<BFloat16, kManyColumns, kSlope>(queue, g);
  else launch_forward<BFloat16, kColumns, kSlope>(queue, g);
}

bool is_for_gelu(const Gemm& g, int multiprocessors) {
  return g.epilogue != GemmEpilogue::kNone && (g.dtype == DType::kBF16 || !has_slope(g)) &&
         pays(g, multiprocessors);
}

// Products whose results, exponentials, have whole parts of tiles and rows without gaps, and which
// are large enough to fill the GPU.
bool is_for_exponentials(const Gemm& g, int multiprocessors) {
  constexpr int64_t kPartColumns = 64, kMostSums = 0x7fffffff;
  return g.dtype == DType::kBF16 && is_plain(g) && !g.column_sums && !g.row_sums &&
         g.n % kPartColumns == 0 && g.out.row_stride == g.n && is_wide(g, multiprocessors) &&
         tiles_of(g, kManyColumns) >= 4 * multiprocessors &&
         tiles_of(g, kManyColumns) * kTileRows <= kMostSums;
}

// In how many panels of equally many rows, whole clusters, the matrix goes through: with
// kClustersOfPanel, or a little fewer, what a panel is made of stays in the cache while the other
// matrix passes by. 1 where there is no such number.
int panels_of(const Gemm& g) {
  constexpr int64_t kClustersOfPanel = 16;
  const int64_t clusters = g.m / kRowsOfCluster, least = ceil_div(clusters, kClustersOfPanel);
  if (g.m % kRowsOfCluster != 0) return 1;
  for (int64_t panels = least; panels <= 2 * least; ++panels)
    if (clusters % panels == 0) return static_cast<int>(panels);
  return 1;
}

}  // namespace

RowSums row_sums_of(const Gemm& g) {
  return {ceil_div(g.n, kManyColumns), ceil_div(g.m, kRowsOfCluster) * kRowsOfCluster};
}

void exponential_product(const Queue& queue, const Gemm& g, const float* shifts, float* sums) {
  launch_exponentials(queue, g, shifts, sums, row_sums_of(g).stride, panels_of(g));
}

bool linear_product(const Gemm& g) {
  if (!kernel_settings().own_gelu_products || !takes_operands(g)) return false;
  const Queue queue("matmul", g.device);
  if (!has_wgmma(queue.index()) || !is_for_linear(g, queue.multiprocessors())) return false;
  if (is_plain(g)) launch_plain<BFloat16>(queue, g);
  else if (g.addend) launch_linear_add<BFloat16>(queue, g);
  else launch_linear<BFloat16>(queue, g);
  return true;
}

bool gelu_product(const Gemm& g) {
  if (g.epilogue == GemmEpilogue::kNone || !kernel_settings().own_gelu_products ||
      !takes_operands(g))
    return false;
  const Queue queue("matmul", g.device);
  if (!has_wgmma(queue.index()) || !is_for_gelu(g, queue.multiprocessors())) return false;
  const bool half = g.dtype == DType::kF16;
  if (g.epilogue == GemmEpilogue::kTimes)
    is_wide(g, queue.multiprocessors()) ? run_backward<BFloat16, kManyColumns, true>(queue, g)
                                        : run_backward<BFloat16, kColumns, true>(queue, g);
  else if (g.epilogue == GemmEpilogue::kGeluSlope) run_forward<true>(queue, g);
  else if (is_backward(g))
    half ? run_backward<Half, kColumns, false>(queue, g)
         : run_backward<BFloat16, kColumns, false>(queue, g);
  else if (half) launch_forward<Half, kColumns, false>(queue, g);
  else run_forward<false>(queue, g);
  return true;
}

}  // namespace vt::cuda

namespace vt {

bool has_gelu_products() { return true; }

bool adds_in_kernel(const Gemm& gemm) {
  if (!kernel_settings().own_gelu_products || !cuda::takes_operands(gemm)) return false;
  const int index = gemm.device.index;
  return cuda::has_wgmma(index) && cuda::is_for_linear(gemm, cuda::multiprocessors(index));
}

bool makes_slope_in_kernel(const Gemm& gemm) {
  Gemm call = gemm;
  call.epilogue = GemmEpilogue::kGeluSlope;
  if (!kernel_settings().own_gelu_products || !cuda::takes_operands(call)) return false;
  const int index = call.device.index;
  return cuda::has_wgmma(index) && cuda::is_for_gelu(call, cuda::multiprocessors(index));
}

bool joins_cross_entropy(const Gemm& gemm) {
  if (!kernel_settings().own_gelu_products || !cuda::takes_rows(gemm) || !cuda::lies_along_k(gemm))
    return false;
  const int index = gemm.device.index;
  return cuda::has_wgmma(index) && cuda::is_for_exponentials(gemm, cuda::multiprocessors(index));
}

}  // namespace vt
