// Sums of columns of gradients: those of items are added up.
#include "kernels/cuda/attention_gradients/launch.h"

namespace vt::cuda::attention_gradients {
namespace {

// A block has 32 columns, four of a thread, and adds up all rows of them, always in the same order.
template <class T>
__global__ void __launch_bounds__(1024, 1) sums_kernel(const __grid_constant__ Sums all) {
  await_earlier();
  const ColumnSums& sums = all.of[blockIdx.y];
  constexpr int kAtOnce = 128, kEach = 4;  // rows of a block, of a thread
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int first = static_cast<int>(blockIdx.x) * 32;
  if (!sums.out || first >= sums.columns) return;
  const float* from = sums.rows + first + lane % 8 * 4;
  float4 sum{};
  for (int row = warp * 4 + lane / 8; row < sums.count; row += kAtOnce * kEach) {
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
  __shared__ float4 of_warp[32][8];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    each[i] += __shfl_xor_sync(0xffffffffu, each[i], 8);
    each[i] += __shfl_xor_sync(0xffffffffu, each[i], 16);
  }
  if (lane < 8) of_warp[warp][lane] = {each[0], each[1], each[2], each[3]};
  __syncthreads();
  if (warp != 0) return;
  float result = 0;
#pragma unroll
  for (int i = 0; i < 32; ++i) result += reinterpret_cast<const float*>(of_warp[i])[lane];
  static_cast<T*>(sums.out)[first + lane] = T(result);
}

}  // namespace

void launch_sums(const Queue& queue, DType dtype, const Sums& sums) {
  int columns = 0;
  for (const ColumnSums& each : sums.of) columns = std::max(columns, each.columns);
  const dim3 grid(static_cast<unsigned>(columns / 32), 3);
  if (dtype == DType::kF16) queue.launch_early(&sums_kernel<Half>, grid, dim3(1024), sums);
  else queue.launch_early(&sums_kernel<BFloat16>, grid, dim3(1024), sums);
}

}  // namespace vt::cuda::attention_gradients
