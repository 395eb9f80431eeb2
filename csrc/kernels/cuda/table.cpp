// The CUDA kernels of this build.
#include "kernels/table.h"

namespace vt {
namespace cuda {
const Kernels& table();  // generated
}

const Kernels& cuda_kernels() {
  static const Kernels& table = cuda::table();
  return table;
}

}  // namespace vt
