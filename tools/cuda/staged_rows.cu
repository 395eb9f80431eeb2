// What racecheck reports of warps that read rows which another warp brings, behind barriers in
// shared memory, where one lane arrives for all; docs/sanitizers.md has what it said.
//
//   nvcc -std=c++17 -lineinfo -arch=sm_90a tools/cuda/staged_rows.cu -o staged_rows
//   compute-sanitizer --tool racecheck ./staged_rows each|one|copies each|one [rows]
//
// The first word: every lane that writes arrives for itself; one does behind __syncwarp(); bulk
// copies write. The second: who of the readers arrives. Up to 3 rows use no stage twice.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

constexpr int kStages = 3, kRow = 64, kReaders = 256, kMostRows = 16;

enum class Writes { kEach, kOne, kCopies };

__device__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}
__device__ void init(const uint64_t& barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)),
               "r"(arrivals));
}
__device__ void arrive(const uint64_t& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier))
               : "memory");
}
__device__ void await(const uint64_t& barrier, uint32_t parity) {
  uint32_t done = 0;
  while (!done)
    asm volatile(
        "{.reg .pred done; mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
        "selp.b32 %0, 1, 0, done;}"
        : "=r"(done)
        : "r"(shared_address(&barrier)), "r"(parity)
        : "memory");
}
__device__ void copy_row(const float* to, const float* from, const uint64_t& full) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&full)),
      "n"(kRow * 4)
      : "memory");
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(to)),
      "l"(from), "n"(kRow * 4), "r"(shared_address(&full))
      : "memory");
}

template <Writes kWrites, bool kEachReader>
__global__ void pass(const float* rows, float* out, int count) {
  __shared__ alignas(128) float stages[kStages][kRow];
  __shared__ alignas(8) uint64_t full[kStages], empty[kStages];
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      init(full[s], kWrites == Writes::kEach ? 32 : 1);
      init(empty[s], kEachReader ? kReaders : kReaders / 32);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  const int lane = threadIdx.x % 32;
  if (threadIdx.x >= kReaders) {
    for (int row = 0; row < count; ++row) {
      const int s = row % kStages;
      await(empty[s], row / kStages % 2 ^ 1);
      if constexpr (kWrites == Writes::kCopies) {
        if (lane == 0) copy_row(stages[s], rows + row * kRow, full[s]);
      } else {
        for (int i = lane; i < kRow; i += 32) stages[s][i] = rows[row * kRow + i];
        __syncwarp();
        if (kWrites == Writes::kEach || lane == 0) arrive(full[s]);
      }
    }
    return;
  }
  float sum = 0;
  for (int row = 0; row < count; ++row) {
    const int s = row % kStages;
    await(full[s], row / kStages % 2);
    for (int i = 0; i < kRow; ++i) sum += const_cast<volatile float&>(stages[s][i]);
    __syncwarp();
    if (kEachReader || lane == 0) arrive(empty[s]);
  }
  out[threadIdx.x] = sum;
}

template <Writes kWrites>
auto chosen(bool each_reader) {
  return each_reader ? &pass<kWrites, true> : &pass<kWrites, false>;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string writers = argc > 1 ? argv[1] : "each", readers = argc > 2 ? argv[2] : "one";
  const int count = argc > 3 ? std::min(std::atoi(argv[3]), kMostRows) : 9;
  const bool each = readers == "each";
  float rows[kMostRows * kRow], found[kReaders];
  double wanted = 0, sum = 0;
  for (int i = 0; i < kMostRows * kRow; ++i) {
    rows[i] = static_cast<float>(i % 7);
    if (i < count * kRow) wanted += kReaders * rows[i];
  }
  float *in = nullptr, *out = nullptr;
  if (cudaMalloc(&in, sizeof rows) != cudaSuccess || cudaMalloc(&out, sizeof found) != cudaSuccess)
    return 2;
  if (cudaMemcpy(in, rows, sizeof rows, cudaMemcpyDefault) != cudaSuccess) return 2;
  const auto kernel = writers == "copies" ? chosen<Writes::kCopies>(each)
                      : writers == "one"  ? chosen<Writes::kOne>(each)
                                          : chosen<Writes::kEach>(each);
  kernel<<<4, kReaders + 32>>>(in, out, count);
  if (cudaMemcpy(found, out, sizeof found, cudaMemcpyDefault) != cudaSuccess) return 2;
  for (const float one : found) sum += one;
  std::printf("%s %s: %.0f, wanted %.0f\n", writers.c_str(), readers.c_str(), sum, wanted);
  return sum == wanted ? 0 : 1;
}
