// The calling thread's autocast modes and what it has cast so far.
#include "autograd/autocast.h"

#include <unordered_map>

#include "autograd/variable.h"
#include "ops/ops.h"

namespace vt {
namespace {

// Note [Weights cast once]
// A parameter that several operators of a region read, or one operator in every micro-batch, is
// cast once. The cast is dropped with the outermost region, since an optimizer's step usually
// follows. It is made anew where the parameter was changed in place (its version) or given other
// memory, or where it was made without recording and is now wanted with a history.
struct CachedCast {
  Tensor leaf;  // keeps the key from being used again
  Tensor cast;
  uint32_t version;
  const void* data;

  bool serves(const Tensor& t, DType dtype) const {
    return version == t.version() && data == t.data() && cast.dtype() == dtype &&
           (cast.requires_grad() || !grad_enabled());
  }
};

struct ThreadState {
  AutocastMode modes[kDeviceTypeCount];
  bool caches = true;
  int regions = 0;
  std::unordered_map<const TensorImpl*, CachedCast> casts;

  ThreadState() {
    modes[static_cast<int>(DeviceType::kCPU)].dtype = DType::kBF16;
    modes[static_cast<int>(DeviceType::kCUDA)].dtype = DType::kF16;
  }
};

ThreadState& state() {
  thread_local ThreadState instance;
  return instance;
}

void set_flag() {
  bool any = false;
  for (const AutocastMode& mode : state().modes) any |= mode.enabled;
  detail::t_autocasting = any;
}

bool is_cached(const Tensor& t, DType dtype) {
  const ThreadState& s = state();
  return s.caches && s.regions > 0 && t.dtype() == DType::kF32 && t.impl()->requires_grad &&
         is_leaf(t) && dtype == s.modes[static_cast<int>(t.device().type)].dtype;
}

}  // namespace

AutocastMode autocast_mode(DeviceType kind) { return state().modes[static_cast<int>(kind)]; }

void set_autocast_mode(DeviceType kind, AutocastMode mode) {
  state().modes[static_cast<int>(kind)] = mode;
  set_flag();
}

void enter_autocast_region() { ++state().regions; }

void leave_autocast_region() {
  ThreadState& s = state();
  if (s.regions > 0) --s.regions;
  if (s.regions == 0) clear_autocast_cache();
}

bool autocast_caches() { return state().caches; }
void set_autocast_caches(bool caches) { state().caches = caches; }

void clear_autocast_cache() {
  const auto dropped = std::move(state().casts);  // letting go of tensors may run other code
  state().casts = {};
}

AutocastOff::AutocastOff() : on_(autocasting()) {
  if (!on_) return;
  std::ranges::copy(state().modes, modes_);
  for (AutocastMode& mode : state().modes) mode.enabled = false;
  detail::t_autocasting = false;
}

AutocastOff::~AutocastOff() {
  if (!on_) return;
  std::ranges::copy(modes_, state().modes);
  detail::t_autocasting = true;
}

Tensor autocast_to(const Tensor& t, DType dtype) {
  if (!is_cached(t, dtype)) return to_dtype(t, dtype);
  const auto found = state().casts.find(t.impl());
  if (found != state().casts.end() && found->second.serves(t, dtype)) return found->second.cast;
  CachedCast made{t, to_dtype(t, dtype), t.version(), t.data()};
  return state().casts.insert_or_assign(t.impl(), std::move(made)).first->second.cast;
}

}  // namespace vt
