// Host memory for tensors, 64-byte aligned, from size-class caches: a small block costs a few
// nanoseconds, a large one does not pay page faults again.
#pragma once
#include <cstddef>

#include "device/backend.h"

namespace vt::cpu {

void* allocate(size_t bytes);               // bytes > 0
void deallocate(void* data, size_t bytes);  // with the size given to allocate
MemoryStats memory_stats();
void reset_peak_memory();
void empty_cache();

}  // namespace vt::cpu
