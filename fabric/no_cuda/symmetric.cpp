// Symmetric GPU memory of a build without CUDA: says so.
#include "fabric/symmetric.h"
#include "base/error.h"

namespace vt::fabric::cuda {

std::unique_ptr<SymmetricSlots> make_symmetric_slots(const Mesh&, size_t, Backing) {
  fail(ErrorKind::kRuntime, "symmetric memory: ", cuda_unavailable_reason());
}

}  // namespace vt::fabric::cuda
