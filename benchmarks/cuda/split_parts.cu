// Times float32 products on tensor cores by themselves, in different numbers of parts along k: what
// the constants of kernels/split_plan.cpp are chosen from. Shapes are "m n k order" lines on stdin,
// order one of nn (both operands along k), nr and rr (rows). Prints microseconds, without the
// kernel that adds the parts.
//   nvcc -std=c++20 --expt-relaxed-constexpr -O3 -gencode arch=compute_90a,code=sm_90a -Icsrc -I. \
//     benchmarks/cuda/split_parts.cu -o split_parts
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/cuda/split/kernel.h"

namespace {

using namespace vt::cuda::split;

void check(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", call, cudaGetErrorString(code));
  std::exit(1);
}
#define CHECK(call) check(call, #call)

__global__ void fill_kernel(float* data, size_t count) {
  for (size_t i = blockIdx.x * size_t{256} + threadIdx.x; i < count; i += size_t{256} * gridDim.x) {
    const auto bits = static_cast<uint32_t>(i * 0x9E3779B97F4A7C15u >> 32);
    data[i] = static_cast<float>(static_cast<int32_t>(bits)) * 0x1p-31f;
  }
}

struct Buffers {
  float *a, *b, *out, *sums;
};

template <Order kA, Order kB>
float microseconds(const Buffers& data, int m, int n, int k, int parts) {
  const auto kernel = &split_product_kernel<kA, kB>;
  CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
  Product p{};
  p.a = data.a;
  p.b = data.b;
  p.a_stride = kA == Order::kInner ? k : m;
  p.b_stride = kB == Order::kInner ? k : n;
  p.m = m;
  p.n = n;
  p.k = k;
  p.tiles_m = (m + kRows - 1) / kRows;
  p.tiles_n = (n + kColumns - 1) / kColumns;
  p.part = ((k + parts - 1) / parts + 2 * kStep - 1) / (2 * kStep) * (2 * kStep);
  p.parts = (k + p.part - 1) / p.part;
  p.sums = data.sums;
  p.store.out = data.out;
  p.store.out_stride = n;
  p.store.alpha = 1;
  p.store.lines = true;
  p.works = p.tiles_m * p.tiles_n * p.parts;
  int multiprocessors = 0;
  CHECK(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0));
  const int grid = std::min(p.works, multiprocessors);
  cudaEvent_t begin, end;
  CHECK(cudaEventCreate(&begin));
  CHECK(cudaEventCreate(&end));
  constexpr int kRuns = 20;
  float best = 1e30f;
  for (int round = 0; round < 3; ++round) {
    CHECK(cudaEventRecord(begin));
    for (int i = 0; i < kRuns; ++i) kernel<<<grid, vt::cuda::split::kThreads, kSharedBytes>>>(p);
    CHECK(cudaEventRecord(end));
    CHECK(cudaEventSynchronize(end));
    float ms = 0;
    CHECK(cudaEventElapsedTime(&ms, begin, end));
    best = std::min(best, ms * 1000 / kRuns);
  }
  CHECK(cudaGetLastError());
  return best;
}

float with_order(const char* order, const Buffers& data, int m, int n, int k, int parts) {
  if (!std::strcmp(order, "rr"))
    return microseconds<Order::kRows, Order::kRows>(data, m, n, k, parts);
  if (!std::strcmp(order, "nr"))
    return microseconds<Order::kInner, Order::kRows>(data, m, n, k, parts);
  return microseconds<Order::kInner, Order::kInner>(data, m, n, k, parts);
}

}  // namespace

int main() {
  constexpr size_t kFloats = size_t{1} << 26, kSums = size_t{1} << 28;
  Buffers data{};
  for (float** buffer : {&data.a, &data.b, &data.out}) {
    CHECK(cudaMalloc(buffer, kFloats * 4));
    fill_kernel<<<1024, 256>>>(*buffer, kFloats);
  }
  CHECK(cudaMalloc(&data.sums, kSums * 4));
  int m, n, k;
  char order[8];
  while (std::scanf("%d %d %d %7s", &m, &n, &k, order) == 4) {
    std::printf("%6d %6d %6d %s |", m, n, k, order);
    for (int parts : {1, 2, 3, 4, 6, 8, 12, 16, 22, 32, 44, 64, 88, 128}) {
      if (parts > 1 && (k / parts < 64 || int64_t{m} * n * parts > int64_t{1} << 24)) break;
      const float us = with_order(order, data, m, n, k, parts);
      std::printf(" %d: %.1f (%.0f TF)", parts, us, 2e-6 * m * n * k / us);
    }
    std::printf("\n");
    std::fflush(stdout);
  }
  return 0;
}
