// Device memory in pages that are mapped into reserved addresses (the driver's virtual memory
// management).
#pragma once
#include <cstddef>

namespace vt::cuda {

// Bytes of a page: what is mapped and unmapped in one piece. 0 where the driver has no virtual
// memory management. Large, because a mapping costs microseconds whatever its length.
size_t page_bytes(int index);

void* reserve_addresses(size_t bytes);
void free_addresses(void* data, size_t bytes) noexcept;

// Gives [data, data + bytes), whole pages, memory of the device that it and the GPUs with peer
// access to it may use. False: there is not so much left, and nothing is mapped.
bool map_pages(int index, void* data, size_t bytes);
// The caller has waited for work that uses them.
void unmap_pages(int index, void* data, size_t bytes) noexcept;

}  // namespace vt::cuda
