// Turning CUDA return codes into errors.
#include "device/cuda/check.h"

#include <string>

#include "device/launch_error.h"

namespace vt::cuda {

bool is_sticky(cudaError_t code) {
  switch (code) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorIllegalInstruction:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorHardwareStackError:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorUnknown: return true;
    default: return false;
  }
}

namespace {

std::string text_of(const char* call, cudaError_t code) {
  (void)cudaGetLastError();
  int device = -1;
  if (cudaGetDevice(&device) != cudaSuccess) (void)cudaGetLastError();
  const char* hint = "";
  if (is_sticky(code))
    hint =
        "; an earlier kernel faulted and this process cannot use the device any more: restart it, "
        "with "
        "CUDA_LAUNCH_BLOCKING=1 the error shows at the operation that caused it";
  else if (code == cudaErrorNoKernelImageForDevice)
    hint =
        "; vibetensor was not built for this GPU: build it again here, or with "
        "VIBETENSOR_RELEASE_ARCHS=ON";
  return str("cuda: ", call, " failed on cuda:", device, ": ", cudaGetErrorName(code), " (",
             cudaGetErrorString(code), ")", hint);
}

ErrorKind kind_of(cudaError_t code) {
  return code == cudaErrorMemoryAllocation ? ErrorKind::kOutOfMemory : ErrorKind::kRuntime;
}

}  // namespace

void fail_call(const char* call, cudaError_t code) { fail(kind_of(code), text_of(call, code)); }

void fail_launch(const char* op, cudaError_t code) {
  throw LaunchError(kind_of(code), text_of(op, code));
}

}  // namespace vt::cuda
