// Opening of cuBLASLt.
#include "kernels/cuda/vendor/cublaslt_api.h"

#include <mutex>

#include "base/error.h"
#include "device/cuda/device.h"

namespace vt::cuda::cublaslt {

const Api& api() {
  static const auto* const instance =
      new Api;  // a failed search is tried again at the next product
  return *instance;
}

void check(Status status, const char* call) {
  VT_CHECK(status == kSuccess, kRuntime, "matmul: ", call, " failed with cuBLAS status ", status);
}

Handle handle_of_device(int index) {
  static std::once_flag once[kMaxDevices];
  static Handle handles[kMaxDevices];
  std::call_once(once[index], [&] { check(api().create(&handles[index]), "cublasLtCreate"); });
  return handles[index];
}

}  // namespace vt::cuda::cublaslt
