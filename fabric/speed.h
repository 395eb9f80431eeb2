// How fast a pair of devices moves data: measured, in the manner of nvbandwidth.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "fabric/mesh.h"

namespace vt::fabric {

// GPUs: what `from` does with the memory of `to`. CPU devices: copies by the host's cores; kernels
// that store are a matter of GPUs.
struct PairSpeed {
  double copy = 0;              // bytes/s of a copy from `from` to `to` (copy engine, or memcpy)
  double copy_both = 0;         // both directions at once, their sum
  std::optional<double> store;  // bytes/s of a kernel on `from` that stores into `to`
  std::optional<double> store_both;  // a kernel on each at once, their sum
  double latency = 0;  // seconds of one load of `from` from `to`, each after the other
};

// nullopt where `from` may not touch the memory of `to` directly. A device and itself are a pair
// too. Takes about half a GiB on each GPU for the time of the call.
std::optional<PairSpeed> measure_pair(Device from, Device to);

// One cycle through all `lines` lines in an order that no prefetcher guesses: the next line of
// each.
std::vector<uint32_t> random_cycle(uint32_t lines);

namespace cuda {  // fabric/cuda, or fabric/no_cuda
PairSpeed measure_pair(int from, int to);
}

}  // namespace vt::fabric
