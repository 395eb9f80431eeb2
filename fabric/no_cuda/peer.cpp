// Pairs of GPUs in a build without CUDA: there are none.
#include "fabric/peer.h"

#include "device/backend.h"

namespace vt::fabric::cuda {

PeerState reported_peer(int, int) { return {}; }
std::string try_pair(int, int) { return cuda_unavailable_reason(); }

}  // namespace vt::fabric::cuda
