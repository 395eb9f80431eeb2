// What programs ask about GPUs that nothing below Python needs: their limits, the priorities of
// their streams, and which GPUs this build has code for.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace vt {

struct GpuDetails {
  std::array<uint8_t, 16> uuid{};
  int warp_size = 0;
  int threads_per_block = 0, threads_per_multiprocessor = 0, registers_per_multiprocessor = 0;
  size_t shared_per_block = 0, shared_per_block_optin = 0, shared_per_multiprocessor = 0;  // bytes
  int l2_bytes = 0;
  int memory_bus_bits = 0, clock_khz = 0, memory_clock_khz = 0;
  bool integrated = false, multi_gpu_board = false;
};

// Throws where there is no such GPU.
GpuDetails gpu_details(int index);

struct StreamPriorities {
  int least = 0, greatest = 0;  // the more urgent, the smaller
};
StreamPriorities stream_priorities(int index);

struct CudaBuild {
  int version = 0;            // of the toolkit, 13000 for 13.0; 0 in a build without CUDA
  std::string architectures;  // as CMake names them, "90a-real,80-virtual"
};
CudaBuild cuda_build();

}  // namespace vt
