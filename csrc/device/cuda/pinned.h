// Pinned host memory, cached: a block that a stream may still read or write is not handed out again
// before it is done.
#pragma once
#include <cstddef>

#include "device/backend.h"

namespace vt::cuda {

void* allocate_pinned(size_t bytes);
void deallocate_pinned(void* data) noexcept;
// Is `data` in host memory that the GPU reaches without staging, ours or another library's?
bool is_pinned(const void* data);
// `stream` reads or writes the block around `data`. False where the block is not ours.
bool record_pinned_use(const void* data, Stream stream);
// `stream` waits for what other streams were last queued with that uses the block around `data`.
// False where the block is not ours.
bool follow_pinned_uses(const void* data, Stream stream);

}  // namespace vt::cuda
