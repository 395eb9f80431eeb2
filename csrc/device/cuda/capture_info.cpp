// What the driver says about streams that are being captured.
#include <cuda_runtime_api.h>

#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/graph.h"
#include "device/cuda/stream.h"

namespace vt::cuda {

uint64_t capture_id(Stream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
#if CUDART_VERSION >= 13000
  const cudaError_t code =
      cudaStreamGetCaptureInfo(handle_of(stream), &status, &id, nullptr, nullptr, nullptr, nullptr);
#else
  const cudaError_t code =
      cudaStreamGetCaptureInfo_v2(handle_of(stream), &status, &id, nullptr, nullptr, nullptr);
#endif
  if (code != cudaSuccess) {  // a capture elsewhere forbids the question: this stream is in none
    (void)cudaGetLastError();
    return 0;
  }
  return status == cudaStreamCaptureStatusNone ? 0 : id;
}

bool capture_dependencies(Stream stream, std::vector<cudaGraphNode_t>& nodes) {
  nodes.clear();
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  const cudaGraphNode_t* found = nullptr;
  size_t count = 0;
#if CUDART_VERSION >= 13000
  const cudaError_t code =
      cudaStreamGetCaptureInfo(handle_of(stream), &status, &id, nullptr, &found, nullptr, &count);
#else
  const cudaError_t code =
      cudaStreamGetCaptureInfo_v2(handle_of(stream), &status, &id, nullptr, &found, &count);
#endif
  if (code != cudaSuccess) {  // edges of another kind than "after the end of"
    (void)cudaGetLastError();
    return false;
  }
  if (status != cudaStreamCaptureStatusActive) return false;
  nodes.assign(found, found + count);
  return true;
}

void set_capture_dependencies(Stream stream, std::span<const cudaGraphNode_t> nodes) {
  DeviceGuard guard(stream.device.index);
  auto* const first = const_cast<cudaGraphNode_t*>(nodes.data());  // it is only read
#if CUDART_VERSION >= 13000
  VT_CUDA(cudaStreamUpdateCaptureDependencies(handle_of(stream), first, nullptr, nodes.size(),
                                              cudaStreamSetCaptureDependencies));
#else
  VT_CUDA(cudaStreamUpdateCaptureDependencies(handle_of(stream), first, nodes.size(),
                                              cudaStreamSetCaptureDependencies));
#endif
}

}  // namespace vt::cuda
