// The CUDA kernels of a build without CUDA: asking for them is an error, as no CUDA tensor can
// exist.
#include "kernels/table.h"
#include "device/backend.h"

namespace vt {

const Kernels& cuda_kernels() { fail(ErrorKind::kRuntime, "cuda: ", cuda_unavailable_reason()); }

}  // namespace vt
