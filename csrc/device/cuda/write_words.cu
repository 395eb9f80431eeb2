// The small launch in front of a graph that carries host numbers to the device by value.
#include <cstring>

#include "base/error.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/graph.h"
#include "device/cuda/stream.h"

namespace vt::cuda {
namespace {

template <int N>
struct Words {
  uint64_t v[N];
};

template <int N>
__global__ void __launch_bounds__(N) write_words_kernel(uint64_t* dst, Words<N> words, int count) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < count) dst[i] = words.v[i];
}

template <int N>
void launch(uint64_t* dst, const uint64_t* words, int count, cudaStream_t stream) {
  Words<N> copy;
  std::memcpy(copy.v, words, static_cast<size_t>(count) * sizeof(uint64_t));
  void* arguments[] = {&dst, &copy, &count};
  VT_CUDA(cudaLaunchKernel(reinterpret_cast<const void*>(&write_words_kernel<N>), 1, N, arguments,
                           0, stream));
}

}  // namespace

void write_words(int index, uint64_t* dst, const uint64_t* words, int count) {
  if (count == 0) return;
  DeviceGuard guard(index);
  const cudaStream_t stream = current_stream(index);
  if (count <= 32) launch<32>(dst, words, count, stream);
  else if (count <= 480) launch<480>(dst, words, count, stream);
  else fail(ErrorKind::kRuntime, "write_words: ", count, " words are more than a launch carries");
}

}  // namespace vt::cuda
