// Noting, checking and restoring the gradients of leaves around a captured step.
#include "autograd/leaf_log.h"

#include <algorithm>
#include <mutex>

namespace vt {
namespace {

struct Active {
  std::mutex mutex;
  std::vector<LeafLog*> logs;
};

Active& active() {
  static auto* const instance = new Active;
  return *instance;
}

}  // namespace

LeafLog::LeafLog(const Capture& capture) : capture_(&capture) {
  std::lock_guard lock(active().mutex);
  active().logs.push_back(this);
}

LeafLog::~LeafLog() {
  std::lock_guard lock(active().mutex);
  std::erase(active().logs, this);
}

void LeafLog::stop() {
  {
    std::lock_guard lock(active().mutex);
    if (std::erase(active().logs, this) == 0) return;
  }
  for (Entry& entry : entries_) entry.after = entry.leaf->grad();
}

void LeafLog::undo() {
  stop();
  for (const Entry& entry : entries_) entry.leaf->put_grad(entry.before);
}

bool LeafLog::entry_is_now() const {
  return std::all_of(entries_.begin(), entries_.end(), [](const Entry& entry) {
    return !entry.reads || entry.leaf->has_grad(entry.before);
  });
}

void LeafLog::restore_exit() const {
  for (const Entry& entry : entries_)
    if (!entry.leaf->has_grad(entry.after)) entry.leaf->put_grad(entry.after);
}

void LeafLog::note(AccumulateGrad* leaf, const Tensor& before, bool reads) {
  const Capture* capture = active_capture(leaf->device());
  if (!capture) return;
  std::lock_guard lock(active().mutex);
  for (LeafLog* log : active().logs) {
    if (log->capture_ != capture) continue;
    const bool known = std::any_of(log->entries_.begin(), log->entries_.end(),
                                   [&](const Entry& entry) { return entry.leaf.get() == leaf; });
    if (!known) log->entries_.push_back({Ref<AccumulateGrad>::share(leaf), before, {}, reads});
  }
}

}  // namespace vt
