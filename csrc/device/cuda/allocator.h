// The caching allocator of every CUDA device, each with its own lock.
#pragma once
#include <cstddef>

#include "device/backend.h"

namespace vt::cuda {

void* allocate(int index, size_t bytes);  // for work of the calling thread's current stream
void deallocate(int index, void* data) noexcept;
void record_stream(int index, void* data, Stream stream);
MemoryStats memory_stats(int index);
void reset_peak_memory(int index);
void empty_cache(int index);

// Private pools, as in Backend.
uint64_t create_memory_pool(int index);
void retain_memory_pool(int index, uint64_t pool);
void release_memory_pool(int index, uint64_t pool);
void begin_memory_pool(uint64_t pool, Stream stream);
void end_memory_pool(uint64_t pool, Stream stream);

}  // namespace vt::cuda
