// Functions of the CUDA driver by name. The library links no libcuda, so that it loads on a machine
// without a driver.
#pragma once
#include <cuda_runtime_api.h>

#include "device/cuda/check.h"

namespace vt::cuda {

// The driver's function `name` as it was in CUDA `version` (12010 for 12.1). Throws where the
// driver has none.
inline void* driver_function(const char* name, unsigned version) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  VT_CUDA(cudaGetDriverEntryPointByVersion(name, &function, version, cudaEnableDefault, &found));
  VT_CHECK(found == cudaDriverEntryPointSuccess && function != nullptr, kRuntime,
           "cuda: the driver has no ", name, " of CUDA ", version / 1000, '.', version % 1000 / 10,
           "; update the NVIDIA driver");
  return function;
}

template <class Signature>
Signature* driver_function_as(const char* name, unsigned version) {
  return reinterpret_cast<Signature*>(driver_function(name, version));
}

}  // namespace vt::cuda
