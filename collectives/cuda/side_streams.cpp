// Making and destroying the side streams.
#include "collectives/cuda/side_streams.h"

#include <limits>

#include "device/cuda/check.h"
#include "device/cuda/device.h"

namespace vt::collectives::gpu {

SideStreams::SideStreams(const fabric::Mesh& mesh) {
  for (Device device : mesh.ranks()) {
    for (int i = 0; i < kLanes; ++i)
      lanes_.push_back(cuda::create_stream(device.index, std::numeric_limits<int>::min()));
    for (int i = 0; i < kMarks; ++i) marks_.push_back(cuda::create_event(device.index, false));
  }
}

SideStreams::~SideStreams() {
  for (Stream stream : lanes_) {
    cuda::DeviceGuard guard(stream.device.index);
    (void)cudaStreamSynchronize(cuda::handle_of(stream));
    cuda::destroy_stream(stream);
  }
  for (cuda::Event* event : marks_) cuda::destroy_event(event);
}

void SideStreams::join(int rank, Stream stream) {
  for (int lane = 0; lane < kLanes; ++lane) {
    record(rank, kStarted, this->lane(rank, static_cast<Lane>(lane)));
    wait(stream, rank, kStarted);
  }
}

void SideStreams::copy(Stream stream, void* to, const void* from, size_t bytes) {
  if (to == from || bytes == 0) return;
  cuda::DeviceGuard guard(stream.device.index);
  VT_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, cuda::handle_of(stream)));
}

}  // namespace vt::collectives::gpu
