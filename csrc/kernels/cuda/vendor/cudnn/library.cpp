// cuDNN's C functions as its header-only frontend calls them by name: each goes on to the library
// that was found at run time, so that nothing is linked.
#include "kernels/cuda/vendor/cudnn/library.h"

#include "base/error.h"
#include "device/cuda/device.h"
#include "device/cuda/stream.h"
#include "device/vendor_library.h"

namespace vt::cuda::cudnn {
namespace {

const VendorLibrary& library() {
  static const auto* const instance = new VendorLibrary(kCudnn);
  return *instance;
}

void check(cudnnStatus_t status, const char* call) {
  VT_CHECK(status == CUDNN_STATUS_SUCCESS, kRuntime, "cuda: ", call,
           " failed: ", cudnnGetErrorString(status));
}

struct Slot {
  std::mutex mutex;
  cudnnHandle_t handle = nullptr;
};

}  // namespace

const std::string& unavailable_reason() {
  static const auto* const reason = [] {
    try {
      library();
      return new std::string;
    } catch (const Error& error) { return new std::string(error.what()); }
  }();
  return *reason;
}

Handle::Handle(int index) {
  static auto* const slots = new Slot[kMaxDevices];
  Slot& slot = slots[index];
  lock_ = std::unique_lock(slot.mutex);
  if (!slot.handle) check(cudnnCreate(&slot.handle), "cudnnCreate");
  handle_ = slot.handle;
  check(cudnnSetStream(handle_, current_stream(index)), "cudnnSetStream");
}

}  // namespace vt::cuda::cudnn

#define VT_FORWARD(name, ...)                                                                 \
  static auto* const target =                                                                 \
      ::vt::cuda::cudnn::library().function<std::remove_pointer_t<decltype(&::name)>>(#name); \
  return target(__VA_ARGS__)

extern "C" {

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) { VT_FORWARD(cudnnCreate, handle); }
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  VT_FORWARD(cudnnSetStream, handle, stream);
}
cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t* stream) {
  VT_FORWARD(cudnnGetStream, handle, stream);
}
size_t cudnnGetVersion(void) { VT_FORWARD(cudnnGetVersion); }
const char* cudnnGetErrorString(cudnnStatus_t status) { VT_FORWARD(cudnnGetErrorString, status); }
void cudnnGetLastErrorString(char* message, size_t size) {
  VT_FORWARD(cudnnGetLastErrorString, message, size);
}
cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t* descriptor) {
  VT_FORWARD(cudnnBackendCreateDescriptor, type, descriptor);
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  VT_FORWARD(cudnnBackendDestroyDescriptor, descriptor);
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  VT_FORWARD(cudnnBackendFinalize, descriptor);
}
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor,
                                       cudnnBackendAttributeName_t attribute,
                                       cudnnBackendAttributeType_t type, int64_t count,
                                       const void* values) {
  VT_FORWARD(cudnnBackendSetAttribute, descriptor, attribute, type, count, values);
}
cudnnStatus_t cudnnBackendGetAttribute(const cudnnBackendDescriptor_t descriptor,
                                       cudnnBackendAttributeName_t attribute,
                                       cudnnBackendAttributeType_t type, int64_t requested,
                                       int64_t* count, void* values) {
  VT_FORWARD(cudnnBackendGetAttribute, descriptor, attribute, type, requested, count, values);
}
cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack) {
  VT_FORWARD(cudnnBackendExecute, handle, plan, pack);
}

}  // extern "C"
