// One lock a process around what can make one device wait for another.
#pragma once
#include <mutex>

namespace vt::cuda {

// Note [Launch units]
// Kernels of a collective wait for each other across devices, so they are enqueued as one unit. A
// call that makes the host wait for a device in between (allocation, freeing, module load) could
// wait for a kernel whose partner is not enqueued yet, for ever. Both hold this lock: a collective
// around its launches, the allocators around calls to the system. Nothing may be allocated while a
// unit is being enqueued.
std::mutex& launch_unit_mutex();

}  // namespace vt::cuda
