// The build found no headers of cuDNN: convolutions are products of matrices.
#include "kernels/structured_cuda.h"

namespace vt::cuda {

void convolution(const Convolution&, bool* done) { *done = false; }

}  // namespace vt::cuda
