// Which CUDA devices exist, what they are, and the guard that makes one current for a scope.
#pragma once
#include <cuda_runtime_api.h>

#include <string>

#include "device/backend.h"

namespace vt::cuda {

int count();                              // 0 where there is no driver or no GPU; never throws
const std::string& unavailable_reason();  // "" where count() > 0
const DeviceProperties& properties(int index);
int multiprocessors(int index);  // a table look-up, for grid sizes
// Throws a RuntimeError that lists what exists when cuda:index does not.
void require_device(int index);

// Makes `index` the thread's CUDA device and puts the former one back. Asks the runtime instead of
// remembering: other libraries of the process may change the device between two of our calls. With
// one GPU it does nothing.
class DeviceGuard {
 public:
  explicit DeviceGuard(int index) {
    if (VT_LIKELY(count() == 1)) return;
    enter(index);
  }
  ~DeviceGuard() {
    if (VT_UNLIKELY(previous_ >= 0)) (void)cudaSetDevice(previous_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  void enter(int index);
  int previous_ = -1;
};

}  // namespace vt::cuda
