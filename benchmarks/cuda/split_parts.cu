// Times float32 products on tensor cores by themselves, in each way to share the tensor cores
// between two groups of warps and in some numbers of parts along k: what the kernel and the
// constants of kernels/split_plan.cpp are chosen from. Shapes are "m n k order" lines on stdin,
// order one of nn (both operands along k), nr and rr (rows). Prints microseconds, without the
// kernel that adds the parts, and the largest error of some results in units of 2^-24 of their sum
// of magnitudes.
//   nvcc -std=c++20 --expt-relaxed-constexpr -O3 -gencode arch=compute_90a,code=sm_90a -Icsrc -I. \
//     benchmarks/cuda/split_parts.cu -o split_parts
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

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

// The largest error of some results, as bits of a float that is not negative.
__global__ void compare_kernel(const Product p, int64_t a_row, int64_t a_k, int64_t b_row,
                               int64_t b_k, unsigned* worst) {
  const auto place = (blockIdx.x * size_t{256} + threadIdx.x) * 7919;
  const auto row = static_cast<int>(place % p.m), column = static_cast<int>(place / p.m % p.n);
  double exact = 0, magnitude = 0, found = 0;
  for (int k = 0; k < p.k; ++k) {
    const double term = double{p.a[row * a_row + k * a_k]} * p.b[column * b_row + k * b_k];
    exact += term;
    magnitude += fabs(term);
  }
  if (p.parts == 1) found = p.store.out[row * p.store.out_stride + column];
  else
    for (int part = 0; part < p.parts; ++part)
      found += p.sums[part_place(p.m, p.n, part, row, column)];
  const double error = fabs(found - exact) / magnitude * 0x1p24;
  atomicMax(worst, __float_as_uint(static_cast<float>(error < 1e9 ? error : 1e9)));
}

struct Buffers {
  float *a, *b, *out, *sums;
  unsigned* worst;
};

template <Order kA, Order kB>
float microseconds(const Buffers& data, int m, int n, int k, int parts, float* error) {
  const auto kernel = &split_product_kernel<kA, kB, false>;
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
  p.works = p.tiles_m * p.tiles_n * p.parts;
  p.sums = data.sums;
  p.store.out = data.out;
  p.store.out_stride = n;
  p.store.alpha = 1;
  p.store.lines = true;
  cudaEvent_t begin, end;
  CHECK(cudaEventCreate(&begin));
  CHECK(cudaEventCreate(&end));
  constexpr int kRuns = 20;
  float best = 1e30f;
  for (int round = 0; round < 3; ++round) {
    CHECK(cudaEventRecord(begin));
    for (int i = 0; i < kRuns; ++i) kernel<<<p.works, vt::cuda::split::kThreads, kSharedBytes>>>(p);
    CHECK(cudaEventRecord(end));
    CHECK(cudaEventSynchronize(end));
    float ms = 0;
    CHECK(cudaEventElapsedTime(&ms, begin, end));
    best = std::min(best, ms * 1000 / kRuns);
  }
  CHECK(cudaMemset(data.worst, 0, 4));
  const bool a_inner = kA == Order::kInner, b_inner = kB == Order::kInner;
  compare_kernel<<<16, 256>>>(p, a_inner ? p.a_stride : 1, a_inner ? 1 : p.a_stride,
                              b_inner ? p.b_stride : 1, b_inner ? 1 : p.b_stride, data.worst);
  CHECK(cudaMemcpy(error, data.worst, 4, cudaMemcpyDeviceToHost));
  return best;
}

void measure(const char* order, const Buffers& data, int m, int n, int k, int parts) {
  float us = 0, error = 0;
  if (!std::strcmp(order, "rr"))
    us = microseconds<Order::kRows, Order::kRows>(data, m, n, k, parts, &error);
  else if (!std::strcmp(order, "nr"))
    us = microseconds<Order::kInner, Order::kRows>(data, m, n, k, parts, &error);
  else us = microseconds<Order::kInner, Order::kInner>(data, m, n, k, parts, &error);
  std::printf(" %.1f us (%.0f TF, %.1f)", us, 2e-6 * m * n * k / us, error);
}

}  // namespace

int main() {
  constexpr size_t kFloats = size_t{1} << 26, kSums = size_t{1} << 26;
  Buffers data{};
  for (float** buffer : {&data.a, &data.b, &data.out}) {
    CHECK(cudaMalloc(buffer, kFloats * 4));
    fill_kernel<<<1024, 256>>>(*buffer, kFloats);
  }
  CHECK(cudaMalloc(&data.sums, kSums * 4));
  CHECK(cudaMalloc(&data.worst, 4));
  int m, n, k;
  char order[8];
  while (std::scanf("%d %d %d %7s", &m, &n, &k, order) == 4) {
    // One part, and as many as fill 132 multiprocessors once.
    const int tiles = (m + kRows - 1) / kRows * ((n + kColumns - 1) / kColumns);
    for (int parts : {1, std::min(132 / tiles, k / 128)}) {
      if (parts < 1) continue;
      std::printf("%6d %6d %6d %s parts %3d |", m, n, k, order, parts);
      measure(order, data, m, n, k, parts);
      std::printf("\n");
      std::fflush(stdout);
      if (132 / tiles <= 1) break;
    }
  }
  return 0;
}
