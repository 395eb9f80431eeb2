// Asking the CUDA runtime about GPUs.
#include "device/gpu_details.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "device/cuda/check.h"
#include "device/cuda/device.h"

namespace vt {

GpuDetails gpu_details(int index) {
  cuda::require_device(index);
  cudaDeviceProp found{};
  VT_CUDA(cudaGetDeviceProperties(&found, index));
  GpuDetails result;
  std::transform(found.uuid.bytes, found.uuid.bytes + result.uuid.size(), result.uuid.begin(),
                 [](char byte) { return static_cast<uint8_t>(byte); });
  result.warp_size = found.warpSize;
  result.threads_per_block = found.maxThreadsPerBlock;
  result.threads_per_multiprocessor = found.maxThreadsPerMultiProcessor;
  result.registers_per_multiprocessor = found.regsPerMultiprocessor;
  result.shared_per_block = found.sharedMemPerBlock;
  result.shared_per_block_optin = found.sharedMemPerBlockOptin;
  result.shared_per_multiprocessor = found.sharedMemPerMultiprocessor;
  result.l2_bytes = found.l2CacheSize;
  result.memory_bus_bits = found.memoryBusWidth;
  result.integrated = found.integrated != 0;
  result.multi_gpu_board = found.isMultiGpuBoard != 0;
  VT_CUDA(cudaDeviceGetAttribute(&result.clock_khz, cudaDevAttrClockRate, index));
  VT_CUDA(cudaDeviceGetAttribute(&result.memory_clock_khz, cudaDevAttrMemoryClockRate, index));
  return result;
}

StreamPriorities stream_priorities(int index) {
  cuda::require_device(index);
  const cuda::DeviceGuard guard(index);
  StreamPriorities result;
  VT_CUDA(cudaDeviceGetStreamPriorityRange(&result.least, &result.greatest));
  return result;
}

CudaBuild cuda_build() { return {CUDART_VERSION, VT_CUDA_ARCHITECTURES}; }

}  // namespace vt
