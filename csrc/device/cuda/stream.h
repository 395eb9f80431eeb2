// Streams: which one each thread uses on each device, and a pool of created ones. The null handle
// is the device's legacy default stream. Created streams do not wait for it, so work on both is
// ordered by events only.
#pragma once
#include <cuda_runtime_api.h>

#include "device/backend.h"

namespace vt::cuda {

cudaStream_t current_stream(int index);  // of the calling thread
void set_current_stream(Stream stream);
inline cudaStream_t handle_of(Stream stream) { return static_cast<cudaStream_t>(stream.handle); }
inline Device device_at(int index) { return {DeviceType::kCUDA, static_cast<uint8_t>(index)}; }

// Destroying keeps the stream for the next create of the same priority: destruction may synchronise
// devices, and the allocators keep memory by stream.
Stream create_stream(int index, int priority);
void destroy_stream(Stream stream);
int stream_priority(Stream stream);
bool query_stream(Stream stream);
void synchronize_stream(Stream stream);

}  // namespace vt::cuda
