// Byte copies with a CUDA device at one end or at both.
#pragma once
#include <atomic>
#include <cstddef>
#include <span>

#include "device/backend.h"

namespace vt::cuda {

// As Backend::copy.
void copy_memory(void* dst, Device dst_device, const void* src, Device src_device, size_t bytes,
                 bool non_blocking);

// A better way between two devices, which knows how they are linked: handed down by a floor above,
// null by default. Ordered on both streams as Backend::copy says. False where it has none.
using PeerCopy = bool (*)(void* dst, Stream target, const void* src, Stream source, size_t bytes);
extern std::atomic<PeerCopy> g_peer_copy;

// As Backend::copy_many.
void copy_many(int index, std::span<const Copy> copies);

}  // namespace vt::cuda
