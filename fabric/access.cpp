// The state of the fabric: off, or on in a mode; and the keeper of the door for remote operands.
#include "fabric/access.h"

#include <atomic>
#include <mutex>

#include "base/error.h"
#include "fabric/events.h"
#include "fabric/lifetime.h"
#include "fabric/peer.h"
#include "fabric/symmetric.h"
#include "fabric/unified.h"
#include "ops/ops.h"
#include "ops/remote_operand.h"

namespace vt::fabric {
namespace {

struct State {
  std::mutex mutex;  // of enable and disable
  std::atomic<Mode> mode{Mode::kOff};
  std::atomic<bool> peer_access{false};
  std::vector<std::pair<int, int>> acquired;
};

State& state() {
  static auto* const instance = new State;
  return *instance;
}

std::vector<Device> devices_of(DeviceType type) {
  std::vector<Device> result;
  for (int i = 0; i < device_count(type); ++i) result.push_back({type, static_cast<uint8_t>(i)});
  return result;
}

std::string why_not_peers(Device from, Device to) {
  const PeerState& pair = peer_state(from, to);
  if (pair.usable) return "";
  return pair.reported ? pair.veto
                       : str("the driver reports no peer access from ", from, " to ", to);
}

class Keeper final : public RemoteOperands {
 public:
  Tensor admit(const char* op, const Tensor& t, Device reader) override {
    const Mode now = mode();
    if (now == Mode::kOff || t.device().type != reader.type) return {};
    const Route found = route(t, reader);
    VT_CHECK(now != Mode::kDryRun, kFabric, op, ": dry run: ", reader, " would ",
             found.way == Route::Way::kDirect ? "read " : "get a copy of ", t, " (", t.bytes(),
             " bytes)", found.reason.empty() ? " in place" : ", because ", found.reason,
             "; nothing was moved, call fabric.enable() to do it");
    if (found.way == Route::Way::kDirect) return t;
    VT_CHECK(now != Mode::kStrict, kFabric, op, ": ", reader, " cannot read ", t,
             " in place: ", found.reason,
             "; copy it with .to(), or call fabric.enable('best_effort')");
    return raw::to_device(t, reader, false);
  }
  void before_read(const char* op, const Tensor& t, Device reader) override {
    before_remote_use(op, reader, t.device());
  }
  void after_read(const char* op, const Tensor& t, Device reader) override {
    after_remote_use(op, reader, t);
    note(EventKind::kPeerRead, op, reader, t.bytes());
  }
  const char* hint() const override {
    return mode() == Mode::kOff
               ? "; move one with .to(device), or let operators read the memory of other devices "
                 "with vibetensor.fabric.enable()"
               : "; move one with .to(device): the fabric joins devices of one kind";
  }
};

void count_copy(Device dst, Device src, size_t bytes) {
  note(EventKind::kCopy,
       src.is_cpu() && dst.is_cuda()   ? "host_to_device"
       : src.is_cuda() && dst.is_cpu() ? "device_to_host"
                                       : "device_to_device",
       dst, bytes);
}

// The door has its keeper, and copies are counted, from the moment this library is loaded.
[[maybe_unused]] const bool g_installed = [] {
  g_remote_operands.store(new Keeper);
  observe_copies(&count_copy);
  return true;
}();

}  // namespace

const char* name(Mode mode) {
  constexpr const char* kNames[] = {"off", "strict", "best_effort", "dry_run"};
  return kNames[static_cast<int>(mode)];
}

const char* name(Route::Way way) {
  constexpr const char* kNames[] = {"local", "direct", "copy", "none"};
  return kNames[static_cast<int>(way)];
}

Mode mode() { return state().mode.load(std::memory_order_relaxed); }
bool peer_access() { return state().peer_access.load(std::memory_order_relaxed); }

std::vector<PairAccess> enable(Mode mode, bool peer_access) {
  VT_CHECK(mode != Mode::kOff, kValue, "fabric.enable: expected a mode");
  disable();
  std::lock_guard lock(state().mutex);
  std::vector<PairAccess> pairs;
  for (DeviceType type : {DeviceType::kCUDA, DeviceType::kCPU})
    for (Device from : devices_of(type))
      for (Device to : devices_of(type)) {
        if (from == to) continue;
        std::string reason = why_not_peers(from, to);
        if (reason.empty() && type == DeviceType::kCUDA && !peer_access)
          reason = "peer access was not asked for";
        pairs.push_back({from, to, reason.empty(), std::move(reason)});
      }
  if (mode == Mode::kStrict)
    for (const PairAccess& pair : pairs)
      VT_CHECK(pair.direct, kFabric, "fabric.enable: ", pair.from,
               " has no direct access to the memory of ", pair.to, ": ", pair.reason,
               "; see `vibetensor topo`, or use the mode 'best_effort'");
  if (mode != Mode::kDryRun)
    for (const PairAccess& pair : pairs)
      if (pair.direct && pair.from.is_cuda()) {
        cuda::acquire_access(pair.from.index, pair.to.index);
        state().acquired.emplace_back(pair.from.index, pair.to.index);
      }
  state().peer_access.store(peer_access);
  state().mode.store(mode);
  return pairs;
}

void disable() {
  std::lock_guard lock(state().mutex);
  state().mode.store(Mode::kOff);
  state().peer_access.store(false);
  for (const auto& [from, to] : state().acquired) cuda::release_access(from, to);
  state().acquired.clear();
}

Route route(const Tensor& t, Device reader) {
  using Way = Route::Way;
  const Device owner = t.device();
  if (owner == reader) return {Way::kLocal, ""};
  if (owner.type != reader.type)
    return {Way::kCopy, "between the host and a GPU there are copies only"};
  if (owner.is_cpu() || t.numel() == 0 || is_unified(t) ||
      reachable_from(reader, owner, t.storage().data(), t.storage().bytes()))
    return {Way::kDirect, ""};
  if (t.storage().wrapped()) return {Way::kCopy, "its memory belongs to another library"};
  if (!cuda::allocator_is_reachable())
    return {Way::kCopy, "its memory is from the driver's pool (VIBETENSOR_CUDA_ALLOCATOR=driver)"};
  // Dry run: as if it were on.
  const bool on = mode() == Mode::kDryRun ? peer_access() && peer_state(reader, owner).usable
                                          : cuda::has_access(reader.index, owner.index);
  if (on) return {Way::kDirect, ""};
  std::string reason = why_not_peers(reader, owner);
  if (reason.empty()) reason = "peer access is off";
  return {Way::kCopy, std::move(reason)};
}

}  // namespace vt::fabric
