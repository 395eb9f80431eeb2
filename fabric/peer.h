// Which pairs of devices reach each other's memory. What the driver reports is not trusted: each
// GPU pair is tried out once, by stores, by the copy engine and by a flag that goes there and back,
// before anything relies on it.
#pragma once
#include <string>
#include <vector>

#include "fabric/mesh.h"

namespace vt::fabric {

struct PeerState {
  bool reported = false;  // the driver says that `from` can reach the memory of `to`
  bool atomics = false;   // and that native atomics work between them
  bool tried = false;     // the pair went through the trial
  bool verified = false;  // and passed
  bool usable = false;    // after VIBETENSOR_P2P and the trial
  std::string veto;       // why not, if the driver reports the pair and it is not usable
};

// From the point of view of a kernel on `from` and memory of `to`. A device reaches itself, CPU
// devices reach each other. Tried once a process; VIBETENSOR_P2P=off vetoes all pairs, =force skips
// the trial.
const PeerState& peer_state(Device from, Device to);

// Throws a FabricError that names the first pair of the mesh without direct access, unless the
// fabric is enabled as best_effort.
void require_peers(const Mesh& mesh);

// "" if `from` and `to` (also one and the same GPU) pass the trial, else what went wrong.
std::string try_pair(Device from, Device to);

namespace cuda {  // fabric/cuda, or fabric/no_cuda
PeerState reported_peer(int from, int to);
std::string try_pair(int from, int to);
}  // namespace cuda

}  // namespace vt::fabric
