// Which GPUs have the instructions that some kernels are made of.
#pragma once
#include <cuda_runtime.h>

#include <atomic>
#include <cstdint>

#include "device/cuda/check.h"
#include "device/cuda/device.h"

namespace vt::cuda {

// Does the GPU have wgmma and TMA as of architecture 9.0a?
inline bool has_wgmma(int index) {
  static std::atomic<int8_t> known[kMaxDevices];  // 0: not asked yet, 1: no, 2: yes
  std::atomic<int8_t>& answer = known[index];
  if (answer == 0) {
    int major = 0, minor = 0;
    VT_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index));
    VT_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index));
    answer = major == 9 && minor == 0 ? 2 : 1;
  }
  return answer == 2;
}

}  // namespace vt::cuda
