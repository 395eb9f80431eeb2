// Named ranges of host time, for NVIDIA's profilers. They cost nothing unless one is attached.
#pragma once

namespace vt {

// In a build without CUDA nobody listens, and the three do nothing.
void nvtx_push(const char* name);
void nvtx_pop();
void nvtx_mark(const char* name);

}  // namespace vt
