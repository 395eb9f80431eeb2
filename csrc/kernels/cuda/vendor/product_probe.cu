// Kernels of the timing of products.
#include "kernels/cuda/vendor/product_probe.h"

#include "kernels/cuda/launch.h"

namespace vt::cuda {
namespace {

constexpr int kBlocks = 1024;

// Every bit of the result depends on every bit of x (the finalizer of MurmurHash3).
VT_HD uint64_t mixed(uint64_t x) {
  x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
  x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
  return x ^ x >> 33;
}

template <class T>
__global__ void __launch_bounds__(kThreads) fill_kernel(T* data, int64_t count, uint64_t seed) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) {
    const auto bits = static_cast<uint32_t>(mixed(seed + static_cast<uint64_t>(i)) >> 40);
    data[i] = convert<T>(static_cast<float>(bits) * 0x1p-23f - 1.0f);
  }
}

__global__ void pause_kernel(int64_t nanoseconds) {
  int64_t start = 0, now = 0;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
  do { asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)); } while (now - start < nanoseconds);
}

// Integers: the order of the additions does not matter.
template <class Word>
__global__ void __launch_bounds__(kThreads)
    fingerprint_kernel(unsigned long long* sum, const Word* data, int64_t rows, int64_t columns,
                       int64_t rows_of_one, int64_t row_stride, int64_t batch_stride) {
  const int64_t step = int64_t{gridDim.x} * kThreads, count = rows * columns;
  unsigned long long mine = 0;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) {
    const int64_t row = i / columns, column = i % columns;
    const int64_t at = row / rows_of_one * batch_stride + row % rows_of_one * row_stride + column;
    mine += mixed(mixed(static_cast<uint64_t>(i)) ^ data[at]);
  }
  atomicAdd(sum, mine);
}

}  // namespace

void fill_for_timing(Device device, DType dtype, void* data, int64_t count, uint64_t seed) {
  const Queue queue("matmul", device);
  visit_float("matmul", dtype, [&]<class T>(TypeTag<T>) {
    queue.launch(&fill_kernel<T>, kBlocks, kThreads, static_cast<T*>(data), count, seed);
  });
}

void pause_stream(Device device, int64_t nanoseconds) {
  const Queue queue("matmul", device);
  queue.launch(&pause_kernel, 1, 1, std::min<int64_t>(nanoseconds, 10'000'000));
}

uint64_t fingerprint(Device device, DType dtype, const GemmMatrix& matrix, int64_t rows,
                     int64_t columns, int64_t batch) {
  const Queue queue("matmul", device);
  const Scratch<unsigned long long> sum(queue, 1);
  VT_CUDA(cudaMemsetAsync(sum.get(), 0, sizeof(unsigned long long), queue.stream()));
  auto add = [&]<class Word>(Word) {
    queue.launch(&fingerprint_kernel<Word>, kBlocks, kThreads, sum.get(),
                 static_cast<const Word*>(matrix.data), rows * batch, columns, rows,
                 matrix.row_stride, matrix.batch_stride);
  };
  switch (item_size(dtype)) {
    case 2: add(uint16_t{}); break;
    case 4: add(uint32_t{}); break;
    default: add(uint64_t{}); break;
  }
  unsigned long long result = 0;
  VT_CUDA(
      cudaMemcpyAsync(&result, sum.get(), sizeof result, cudaMemcpyDeviceToHost, queue.stream()));
  VT_CUDA(cudaStreamSynchronize(queue.stream()));
  return result;
}

}  // namespace vt::cuda
