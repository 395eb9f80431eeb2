// Direct access between pairs of GPUs, counted.
#include "fabric/access.h"

#include "base/env.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/stream.h"
#include "device/cuda/unit_lock.h"
#include "fabric/events.h"

#include <array>
#include <atomic>

namespace vt::fabric::cuda {
namespace {

using vt::cuda::DeviceGuard;

struct Pair {
  std::atomic<int> users{0};  // changed under the lock of Note [Launch units]
  bool ours = false;          // switched on here, not by another library
};

Pair& pair_of(int from, int to) {
  static auto* const pairs = new std::array<std::array<Pair, kMaxDevices>, kMaxDevices>;
  return (*pairs)[from][to];
}

}  // namespace

void acquire_access(int from, int to) {
  std::lock_guard lock(vt::cuda::launch_unit_mutex());
  Pair& pair = pair_of(from, to);
  if (pair.users.load() == 0) {
    DeviceGuard guard(from);
    const int64_t start = event_clock();
    const cudaError_t code = cudaDeviceEnablePeerAccess(to, 0);
    pair.ours = code == cudaSuccess;
    if (code == cudaErrorPeerAccessAlreadyEnabled) (void)cudaGetLastError();
    else VT_CUDA(code);
    note(EventKind::kAccess, "peer_access_on", vt::cuda::device_at(from), 0, "", start);
  }
  pair.users.fetch_add(1);
}

void release_access(int from, int to) noexcept {
  std::lock_guard lock(vt::cuda::launch_unit_mutex());
  Pair& pair = pair_of(from, to);
  if (pair.users.fetch_sub(1) > 1 || !pair.ours) return;
  // A kernel on `from` may still be at work on memory of `to`.
  DeviceGuard guard(from);
  (void)cudaDeviceSynchronize();
  if (cudaDeviceDisablePeerAccess(to) != cudaSuccess) (void)cudaGetLastError();
  note(EventKind::kAccess, "peer_access_off", vt::cuda::device_at(from), 0);
}

bool has_access(int from, int to) { return pair_of(from, to).users.load() > 0; }

bool allocator_is_reachable() {
  static const bool reachable = env::cuda_allocator() != "driver";
  return reachable;
}

}  // namespace vt::fabric::cuda
