// Sums of columns of gradients: those of warps are added up.
#include "kernels/cuda/attention_gradients/launch.h"

namespace vt::cuda::attention_gradients {
namespace {

constexpr int kColumns = 16;  // of a block

// A thread has four columns of a row and adds up every 256th row, always in the same order.
template <class T>
__global__ void __launch_bounds__(1024, 1) sums_kernel(const __grid_constant__ Sums all) {
  await_earlier();
  const ColumnSums& sums = all.of[blockIdx.y];
  constexpr int kAtOnce = 256, kEach = 8;  // rows of a block, of a thread
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int first = static_cast<int>(blockIdx.x) * kColumns;
  if (!sums.out || first >= sums.columns) return;
  const float* from = sums.rows + first + lane % 4 * 4;
  float4 sum{};
  for (int row = warp * 8 + lane / 4; row < sums.count; row += kAtOnce * kEach) {
    float4 x[kEach];
    // No load waits for a condition.
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      x[i] = *reinterpret_cast<const float4*>(
          from + int64_t{min(row + i * kAtOnce, sums.count - 1)} * sums.columns);
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      if (row + i * kAtOnce < sums.count)
        sum = {sum.x + x[i].x, sum.y + x[i].y, sum.z + x[i].z, sum.w + x[i].w};
  }
  float each[] = {sum.x, sum.y, sum.z, sum.w};
  __shared__ float of_warp[32][kColumns];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int step = 4; step < 32; step *= 2) each[i] += __shfl_xor_sync(0xffffffffu, each[i], step);
    if (lane < 4) of_warp[warp][lane * 4 + i] = each[i];
  }
  __syncthreads();
  if (threadIdx.x >= kColumns) return;
  float result = 0;
#pragma unroll
  for (int i = 0; i < 32; ++i) result += of_warp[i][lane];
  static_cast<T*>(sums.out)[first + lane] = T(result);
}

}  // namespace

void launch_sums(const Queue& queue, DType dtype, const Sums& sums) {
  int columns = 0;
  for (const ColumnSums& each : sums.of) columns = std::max(columns, each.columns);
  const dim3 grid(static_cast<unsigned>(columns / kColumns), 3);
  if (dtype == DType::kF16) queue.launch_early(&sums_kernel<Half>, grid, dim3(1024), sums);
  else queue.launch_early(&sums_kernel<BFloat16>, grid, dim3(1024), sums);
}

}  // namespace vt::cuda::attention_gradients
