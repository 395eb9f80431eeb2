// The mesh: an ordered list of ranks, each on a device. Several ranks may share a device, so that
// every protocol runs with any number of ranks on a machine with one device.
#pragma once
#include <ostream>
#include <vector>

#include "base/device.h"

namespace vt::fabric {

inline constexpr int kMaxRanks = 16;
inline constexpr int kMaxCudaRanks = 8;  // what the flag layout of the GPU protocols has room for

class Mesh {
 public:
  // Checks that every device exists, that all are of one type, and that there are 1 to 16 of them
  // (8 on GPUs).
  explicit Mesh(std::vector<Device> ranks);

  int size() const { return static_cast<int>(ranks_.size()); }
  Device device(int rank) const { return ranks_[rank]; }
  const std::vector<Device>& ranks() const { return ranks_; }
  DeviceType type() const { return ranks_[0].type; }
  bool is_cuda() const { return type() == DeviceType::kCUDA; }

  const std::vector<Device>& devices() const {
    return devices_;
  }  // each one once, in order of first use
  int device_number(int rank) const { return numbers_[rank]; }          // in devices()
  const std::vector<int>& first_ranks() const { return first_ranks_; }  // one a device
  int ranks_on(Device device) const;
  int max_ranks_on_a_device() const;
  bool operator==(const Mesh& other) const { return ranks_ == other.ranks_; }

 private:
  std::vector<Device> ranks_, devices_;
  std::vector<int> numbers_;      // by rank
  std::vector<int> first_ranks_;  // by device
};

std::ostream& operator<<(std::ostream& out, const Mesh& mesh);

}  // namespace vt::fabric
