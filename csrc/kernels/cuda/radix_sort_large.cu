// The sort of many keys: CUB's, whose passes read and write each pair once.
#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda/radix_sort.h"

namespace vt::cuda {
namespace {

__global__ void __launch_bounds__(kThreads) number_kernel(uint32_t* positions, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) positions[i] = static_cast<uint32_t>(i);
}

}  // namespace

template <class K>
bool sort_many(const Queue& queue, K* (&keys)[2], uint32_t* (&positions)[2], int64_t count,
               int bits, bool numbered) {
  if (!numbered)
    queue.launch(&number_kernel, ceil_div(count, kThreads), kThreads, positions[0], count);
  cub::DoubleBuffer<K> both_keys(keys[0], keys[1]);
  cub::DoubleBuffer<uint32_t> both_positions(positions[0], positions[1]);
  const auto number = static_cast<uint32_t>(count);
  size_t bytes = 0;
  VT_CUDA(cub::DeviceRadixSort::SortPairs(nullptr, bytes, both_keys, both_positions, number, 0,
                                          bits, queue.stream()));
  const Scratch<char> memory(queue, static_cast<int64_t>(std::max<size_t>(bytes, 1)));
  VT_CUDA(cub::DeviceRadixSort::SortPairs(memory.get(), bytes, both_keys, both_positions, number, 0,
                                          bits, queue.stream()));
  // Both change places together.
  VT_CHECK(both_keys.selector == both_positions.selector, kRuntime,
           "sort: keys and positions ended in different buffers");
  return both_keys.selector != 0;
}

template bool sort_many<uint32_t>(const Queue&, uint32_t* (&)[2], uint32_t* (&)[2], int64_t, int,
                                  bool);
template bool sort_many<uint64_t>(const Queue&, uint64_t* (&)[2], uint32_t* (&)[2], int64_t, int,
                                  bool);

}  // namespace vt::cuda
