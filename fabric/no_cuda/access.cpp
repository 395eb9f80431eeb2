// Direct access between GPUs in a build without CUDA: there are none.
#include "fabric/access.h"

#include "base/error.h"

namespace vt::fabric::cuda {

void acquire_access(int, int) { fail(ErrorKind::kRuntime, "fabric: ", cuda_unavailable_reason()); }
void release_access(int, int) noexcept {}
bool has_access(int, int) { return false; }
bool allocator_is_reachable() { return false; }

}  // namespace vt::fabric::cuda
