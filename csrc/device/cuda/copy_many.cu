// Several small copies within a device in one launch: a launch costs more than the bytes.
#include <algorithm>

#include "device/cuda/check.h"
#include "device/cuda/copy.h"
#include "device/cuda/device.h"
#include "device/cuda/stream.h"

namespace vt::cuda {
namespace {

constexpr int kAtOnce = 32;
constexpr int kThreads = 256;

struct Copies {
  Copy each[kAtOnce];
};

template <class Unit>
__device__ void copy_units(const Copy& copy, size_t first, size_t step) {
  const size_t count = copy.bytes / sizeof(Unit);
  auto* const dst = static_cast<Unit*>(copy.dst);
  const auto* const src = static_cast<const Unit*>(copy.src);
  for (size_t i = first; i < count; i += step) dst[i] = src[i];
}

// One row of blocks a copy.
__global__ void __launch_bounds__(kThreads) copy_many_kernel(Copies copies) {
  const Copy& copy = copies.each[blockIdx.y];
  const size_t first = size_t{blockIdx.x} * kThreads + threadIdx.x;
  const size_t step = size_t{gridDim.x} * kThreads;
  const size_t all =
      reinterpret_cast<uintptr_t>(copy.dst) | reinterpret_cast<uintptr_t>(copy.src) | copy.bytes;
  if (all % sizeof(uint4) == 0) copy_units<uint4>(copy, first, step);
  else if (all % sizeof(uint32_t) == 0) copy_units<uint32_t>(copy, first, step);
  else copy_units<char>(copy, first, step);
}

}  // namespace

void copy_many(int index, std::span<const Copy> copies) {
  DeviceGuard guard(index);
  const cudaStream_t stream = current_stream(index);
  for (size_t begin = 0; begin < copies.size(); begin += kAtOnce) {
    const auto part = copies.subspan(begin, std::min<size_t>(kAtOnce, copies.size() - begin));
    Copies batch{};
    std::copy(part.begin(), part.end(), batch.each);
    size_t most = 0;
    for (const Copy& copy : part) most = std::max(most, copy.bytes);
    constexpr size_t kBytesPerBlock = size_t{kThreads} * sizeof(uint4) * 4;
    const size_t blocks = std::clamp<size_t>((most + kBytesPerBlock - 1) / kBytesPerBlock, 1,
                                             static_cast<size_t>(multiprocessors(index)) * 4);
    void* arguments[] = {&batch};
    VT_CUDA(
        cudaLaunchKernel(reinterpret_cast<const void*>(&copy_many_kernel),
                         dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(part.size())),
                         kThreads, arguments, 0, stream));
  }
}

}  // namespace vt::cuda
