// cuDNN's handles. The library itself is opened at the first call of one of its functions.
#pragma once
#include <cudnn.h>

#include <mutex>
#include <string>

namespace vt::cuda::cudnn {

// "" if cuDNN can be used, else why not. Looked for once.
const std::string& unavailable_reason();

// The handle of a device, for as long as this lives: no other thread uses it then. Work goes to the
// calling thread's current stream.
class Handle {
 public:
  explicit Handle(int index);
  cudnnHandle_t get() const { return handle_; }

 private:
  std::unique_lock<std::mutex> lock_;
  cudnnHandle_t handle_;
};

}  // namespace vt::cuda::cudnn
