// Programs on CUDA devices: generated, compiled, kept by source, launched on the current stream.
#pragma once
#include "fuse/source.h"

namespace vt::fuse {

// Throws a RuntimeError where the program's kernel cannot be compiled or loaded.
void run_on_cuda(const KernelSource& kernel, Device device);  // cuda/, or no_cuda/

}  // namespace vt::fuse
