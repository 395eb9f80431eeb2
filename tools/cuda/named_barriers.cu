// What racecheck reports of groups of warps that pass barriers of their own, unequally often,
// before a barrier of their whole block; docs/sanitizers.md has what it said.
//
//   nvcc -lineinfo -arch=sm_90a tools/cuda/named_barriers.cu -o named_barriers
//   compute-sanitizer --tool racecheck ./named_barriers equal|unequal|padded|race
//
// equal: three rows a group; unequal: three and two; padded: so, but both groups pass their barrier
// three times; race: without the barrier of the block, so the report is right.
#include <cuda_runtime.h>

#include <cstdio>
#include <string>

namespace {

constexpr int kWidth = 256, kBlock = 512, kMostRows = 6;

template <int kNumber>
__device__ void named_barrier() {
  asm volatile("bar.sync %0, %1;" ::"n"(kNumber), "n"(kWidth) : "memory");
}

__device__ float sum_over_group(float value, int turn) {
  __shared__ float parts[2][kBlock / 32];
  for (int offset = 16; offset > 0; offset /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  if (threadIdx.x % 32 == 0) parts[turn][threadIdx.x / 32] = value;
  if (threadIdx.x / kWidth == 0) named_barrier<1>();
  else named_barrier<2>();
  float sum = 0;
  for (int warp = 0; warp < kWidth / 32; ++warp)
    sum += parts[turn][threadIdx.x / kWidth * (kWidth / 32) + warp];
  return sum;
}

__global__ void walk(const float* rows, float* out, int count, bool padded, bool ordered) {
  __shared__ float columns[kBlock];
  const int group = threadIdx.x / kWidth, lane = threadIdx.x % kWidth, groups = kBlock / kWidth;
  const int end = padded ? (count + groups - 1) / groups * groups : count;
  float own = 0;
  for (int row = group, turn = 0; row < end; row += groups, turn ^= 1) {
    const float value = row < count ? rows[row * kWidth + lane] : 0.f;
    own += value * sum_over_group(value, turn);
  }
  columns[threadIdx.x] = own;
  if (ordered) __syncthreads();
  out[threadIdx.x] = columns[threadIdx.x] + columns[(threadIdx.x + kWidth) % kBlock];
}

}  // namespace

int main(int argc, char** argv) {
  const std::string kind = argc > 1 ? argv[1] : "unequal";
  const bool even = kind == "equal" || kind == "race";
  const int count = even ? kMostRows : kMostRows - 1;
  float rows[kMostRows * kWidth], found[kBlock];
  double wanted = 0, sum = 0;
  for (int row = 0; row < kMostRows; ++row) {
    double whole = 0;
    for (int i = 0; i < kWidth; ++i)
      whole += rows[row * kWidth + i] = static_cast<float>((row + i) % 7);
    if (row < count) wanted += 2 * whole * whole;
  }
  float *in = nullptr, *out = nullptr;
  if (cudaMalloc(&in, sizeof rows) != cudaSuccess || cudaMalloc(&out, sizeof found) != cudaSuccess)
    return 2;
  if (cudaMemcpy(in, rows, sizeof rows, cudaMemcpyDefault) != cudaSuccess) return 2;
  walk<<<1, kBlock>>>(in, out, count, kind == "padded", kind != "race");
  if (cudaMemcpy(found, out, sizeof found, cudaMemcpyDefault) != cudaSuccess) return 2;
  for (const float one : found) sum += one;
  std::printf("%s: %.0f, wanted %.0f\n", kind.c_str(), sum, wanted);
  return sum == wanted ? 0 : 1;
}
