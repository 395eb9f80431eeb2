// A build without CUDA has no tensors that a generated kernel could run on.
#include "fuse/launch.h"

namespace vt::fuse {

void run_on_cuda(const KernelSource&, Device) {
  fail(ErrorKind::kRuntime, "cuda: ", cuda_unavailable_reason());
}

}  // namespace vt::fuse
