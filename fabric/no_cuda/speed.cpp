// Measurements between GPUs in a build without CUDA: there are none.
#include "fabric/speed.h"

#include "base/error.h"
#include "device/backend.h"

namespace vt::fabric::cuda {

PairSpeed measure_pair(int, int) {
  fail(ErrorKind::kRuntime, "measure_pair: ", cuda_unavailable_reason());
}

}  // namespace vt::fabric::cuda
