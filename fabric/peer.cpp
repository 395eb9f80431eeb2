// The verdict on each pair of devices, reached once.
#include "fabric/peer.h"

#include <map>
#include <mutex>

#include "base/env.h"
#include "base/error.h"
#include "device/backend.h"
#include "fabric/access.h"

namespace vt::fabric {
namespace {

PeerState judge(Device from, Device to) {
  if (from == to || (from.is_cpu() && to.is_cpu()))
    return {.reported = true,
            .atomics = true,
            .tried = false,
            .verified = true,
            .usable = true,
            .veto = ""};
  if (from.is_cpu() || to.is_cpu()) return {};  // between host and GPU there are copies only
  PeerState state = cuda::reported_peer(from.index, to.index);
  if (!state.reported) return state;
  const std::string policy = env::fabric_p2p();
  if (policy == "off") {
    state.veto = "VIBETENSOR_P2P=off";
  } else if (policy == "force") {
    state.usable = true;
  } else {
    state.tried = true;
    state.veto = cuda::try_pair(from.index, to.index);
    state.verified = state.usable = state.veto.empty();
  }
  return state;
}

}  // namespace

const PeerState& peer_state(Device from, Device to) {
  static auto* const mutex = new std::mutex;
  static auto* const known = new std::map<std::pair<int, int>, PeerState>;
  check_device(from);
  check_device(to);
  auto id = [](Device d) { return static_cast<int>(d.type) * kMaxDevices + d.index; };
  std::lock_guard lock(*mutex);  // a trial runs alone
  auto found = known->find({id(from), id(to)});
  if (found == known->end())
    found = known->emplace(std::pair{id(from), id(to)}, judge(from, to)).first;
  return found->second;
}

void require_peers(const Mesh& mesh) {
  if (mode() == Mode::kBestEffort) return;  // symmetric memory of the host will do
  for (Device from : mesh.devices())
    for (Device to : mesh.devices()) {
      const PeerState& state = peer_state(from, to);
      if (state.usable) continue;
      fail(ErrorKind::kFabric, "fabric: ", from, " has no direct access to the memory of ", to,
           " (", state.reported ? state.veto : "the driver reports no peer access between them",
           "); see `vibetensor topo`, and leave one of them out of the mesh, or go through the "
           "host's "
           "memory with vibetensor.fabric.enable('best_effort')");
    }
}

std::string try_pair(Device from, Device to) {
  check_device(from);
  check_device(to);
  return from.is_cuda() && to.is_cuda() ? cuda::try_pair(from.index, to.index) : "";
}

}  // namespace vt::fabric
