// The ring of a build without CUTLASS's headers: says so.
#include "collectives/cuda/algorithms/ring.h"

namespace vt::collectives::gpu::ring {

const char* unavailable() {
  return "this build has no CUTLASS headers; build again where pip can fetch nvidia-cutlass, or "
         "name their folder with -DVIBETENSOR_CUTLASS_INCLUDE_DIR";
}
const void* float_kernel(DType, ReduceOp, int) { return nullptr; }
const void* integer_kernel(DType, ReduceOp, int) { return nullptr; }

}  // namespace vt::collectives::gpu::ring
