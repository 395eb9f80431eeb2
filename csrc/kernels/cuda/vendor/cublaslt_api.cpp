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

std::string status_text(Status status) {
  const auto meaning = [&] {
    switch (status) {
      case 1: return "not initialised";
      case 3: return "it got no memory";
      case 7: return "invalid value";
      case 8: return "not for this GPU";
      case 11: return "memory cannot be reached";
      case 13: return "a kernel could not be started or failed";
      case 14: return "internal error";
      case 15: return "not supported";
      default: return "unknown";
    }
  };
  return str(static_cast<int>(status), " (", meaning(), ")");
}

void check(Status status, const char* call) {
  VT_CHECK(status == kSuccess, kRuntime, "matmul: ", call, " failed with cuBLAS status ",
           status_text(status));
}

Handle handle_of_device(int index) {
  static std::once_flag once[kMaxDevices];
  static Handle handles[kMaxDevices];
  std::call_once(once[index], [&] { check(api().create(&handles[index]), "cublasLtCreate"); });
  return handles[index];
}

}  // namespace vt::cuda::cublaslt
