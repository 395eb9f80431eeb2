// Lets the library's own bookkeeping call the runtime while a graph is being captured.
#pragma once
#include <cuda_runtime_api.h>

namespace vt::cuda {

// While a stream captures, CUDA refuses calls that may order streams by accident, such as
// allocation, on every thread. Within this scope they are allowed on this thread: what the
// allocators do belongs to no stream.
class RelaxedCapture {
 public:
  RelaxedCapture() {
    if (cudaThreadExchangeStreamCaptureMode(&mode_) != cudaSuccess) (void)cudaGetLastError();
  }
  ~RelaxedCapture() {
    if (cudaThreadExchangeStreamCaptureMode(&mode_) != cudaSuccess) (void)cudaGetLastError();
  }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

}  // namespace vt::cuda
