// Checks and queries of the mesh.
#include "fabric/mesh.h"

#include <algorithm>

#include "base/error.h"
#include "device/backend.h"

namespace vt::fabric {

Mesh::Mesh(std::vector<Device> ranks) : ranks_(std::move(ranks)) {
  VT_CHECK(!ranks_.empty(), kValue,
           "mesh: the list of devices is empty; name at least one, as in mesh(['cpu:0'])");
  const bool cuda = ranks_[0].is_cuda();
  const size_t limit = cuda ? kMaxCudaRanks : kMaxRanks;
  VT_CHECK(ranks_.size() <= limit, kValue, "mesh: at most ", limit, cuda ? " CUDA" : " CPU",
           " ranks, got ", ranks_.size());
  for (size_t r = 0; r < ranks_.size(); ++r) {
    const Device device = ranks_[r];
    VT_CHECK(device.type == ranks_[0].type, kValue, "mesh: rank 0 is on ", ranks_[0], " and rank ",
             r, " on ", device, "; all ranks of a mesh must be of one device type");
    check_device(device);
    const auto found = std::find(devices_.begin(), devices_.end(), device);
    numbers_.push_back(static_cast<int>(found - devices_.begin()));
    if (found != devices_.end()) continue;
    devices_.push_back(device);
    first_ranks_.push_back(static_cast<int>(r));
  }
}

int Mesh::ranks_on(Device device) const {
  return static_cast<int>(std::count(ranks_.begin(), ranks_.end(), device));
}

int Mesh::max_ranks_on_a_device() const {
  int most = 0;
  for (Device device : devices_) most = std::max(most, ranks_on(device));
  return most;
}

std::ostream& operator<<(std::ostream& out, const Mesh& mesh) {
  for (int r = 0; r < mesh.size(); ++r) out << (r ? ", " : "[") << mesh.device(r);
  return out << ']';
}

}  // namespace vt::fabric
