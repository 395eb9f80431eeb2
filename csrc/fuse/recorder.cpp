// The list of what was put off, and running it.
#include "fuse/recorder.h"

#include <algorithm>

#include "device/deferred.h"
#include "fuse/interpreter.h"
#include "fuse/launch.h"
#include "fuse/patterns/pattern.h"

namespace vt::fuse {
namespace {

constexpr size_t kMostPending = 96;              // operators
constexpr size_t kMostKept = size_t{512} << 20;  // bytes of freed blocks

thread_local bool t_records = false;  // this thread's operators are recorded
thread_local bool t_flushing = false;

class Flushing {
 public:
  Flushing() { t_flushing = true; }
  ~Flushing() { t_flushing = false; }
};

void settle() { recorder().flush(); }
bool keep_freed(Device device, void* data, size_t bytes) {
  return recorder().keep(device, data, bytes);
}

std::string names_of(const Program& program) {
  std::string names;
  for (const Step& step : program.steps)
    names += (names.empty() ? "" : " ") + std::string(step.node->name);
  return names;
}

}  // namespace

Recorder& recorder() {
  static auto* const instance = new Recorder;
  return *instance;
}

Tensor unowned(const Tensor& t) {
  if (!t.defined()) return t;
  const TensorImpl* impl = t.impl();
  auto storage = Storage::wrap(t.device(), t.storage().data(), t.storage().bytes(), {});
  return Tensor(Ref<TensorImpl>::adopt(
      new TensorImpl(std::move(storage), impl->sizes, impl->strides, impl->offset, impl->dtype)));
}

bool Recorder::here() const { return t_records && !t_flushing; }

void Recorder::begin(unsigned passes) {
  std::lock_guard lock(mutex_);
  VT_CHECK(!active_, kRuntime,
           "fuse: a recording is active already; recordings do not nest, and one thread of the "
           "process records at a time");
  active_ = true;
  passes_ = passes;
  report_ = {};
  sources_.clear();
  t_records = true;
  for (auto& stand_in : g_stand_in) stand_in.store(&recording_table());
  Storage::observe_frees(&keep_freed);
  g_run_deferred.store(&settle);
}

Report Recorder::end() {
  std::lock_guard lock(mutex_);
  VT_CHECK(active_, kRuntime, "fuse: no recording is active");
  try {
    flush();
  } catch (...) {
    stop();
    throw;
  }
  stop();
  return std::move(report_);
}

void Recorder::stop() noexcept {
  g_run_deferred.store(nullptr);
  Storage::observe_frees(nullptr);
  for (auto& stand_in : g_stand_in) stand_in.store(nullptr);
  active_ = false;
  t_records = false;
  release();
}

void Recorder::release() noexcept {
  std::vector<Kept> kept = std::move(kept_);
  kept_.clear();
  kept_bytes_ = 0;
  for (const Kept& block : kept) Storage::give_back(block.device, block.data, block.bytes);
}

void Recorder::add(Node node) {
  std::lock_guard lock(mutex_);
  ++report_.recorded;
  pending_.push_back(std::move(node));
  if (pending_.size() >= kMostPending || kept_bytes_ >= kMostKept) flush();
}

bool Recorder::keep(Device device, void* data, size_t bytes) noexcept {
  if (t_flushing) return false;
  std::lock_guard lock(mutex_);
  const char* begin = static_cast<const char*>(data);
  const Range block{begin, begin + bytes};
  auto touches = [&](const Node& node) {
    if (!(node.device == device)) return false;
    if (!node.elementwise()) {
      auto hit = [&](const Range& range) { return range.overlaps(block); };
      return std::any_of(node.reads.begin(), node.reads.end(), hit) ||
             std::any_of(node.writes.begin(), node.writes.end(), hit);
    }
    if (block.overlaps({node.out.data, node.out.end(node.space)})) return true;
    for (int i = 0; i < node.inputs; ++i)
      if (i != node.scalar_at && block.overlaps({node.in[i].data, node.in[i].end(node.space)}))
        return true;
    return false;
  };
  if (!std::any_of(pending_.begin(), pending_.end(), touches)) return false;
  kept_.push_back({device, data, bytes});
  kept_bytes_ += bytes;
  return true;
}

void Recorder::flush() {
  if (t_flushing) return;
  std::lock_guard lock(mutex_);
  if (pending_.empty()) return;
  Flushing flushing;
  std::vector<Node> nodes = std::move(pending_);
  pending_.clear();
  DeadRanges dead;
  if (enabled(kDeadWork))
    for (const Kept& block : kept_) {
      const char* begin = static_cast<const char*>(block.data);
      dead.push_back({begin, begin + block.bytes});
    }
  ++report_.flushes;
  try {
    run(std::move(nodes), dead);
  } catch (...) {
    release();
    throw;
  }
  release();
}

void Recorder::rewrite(std::vector<Node>& nodes, const DeadRanges& dead) {
  PatternList list(nodes, dead);
  auto apply = [&](Pass pass, const char* name, int (*pattern)(PatternList&)) {
    if (!enabled(pass)) return;
    const int found = pattern(list);
    if (found > 0) report_.rewrites[name] += found;
    list.compact();
  };
  apply(kAddNorm, "add_norm", &fuse_add_norm);
  apply(kLinearGelu, "linear_gelu", &fuse_linear_gelu);
  apply(kGeluBackward, "gelu_backward", &fuse_gelu_backward);
  apply(kCopies, "copies", &fuse_copies);
  apply(kNormBackwardAdd, "norm_backward_add", &fuse_norm_backward_add);
}

void Recorder::run(std::vector<Node> nodes, const DeadRanges& dead) {
  rewrite(nodes, dead);
  for (const Group& group : make_groups(nodes, enabled(kPointwise))) run_group(nodes, group, dead);
}

void Recorder::run_alone(const Node& node) {
  node.run();
  ++report_.launched;
  ++report_.alone[node.name];
}

void Recorder::run_group(const std::vector<Node>& nodes, const Group& group,
                         const DeadRanges& dead) {
  const Node& first = nodes[static_cast<size_t>(group.nodes[0])];
  if (group.nodes.size() == 1) {
    if (first.elementwise() && is_private(nodes, group.nodes[0], group, dead)) {
      ++report_.dropped;
      return;
    }
    return run_alone(first);
  }
  const Program program = make_program(nodes, group, dead);
  report_.dropped += program.dropped;
  report_.not_stored += program.not_stored;
  if (program.stores.empty()) return;
  if (program.row != 0 && !rows_are_simple(program)) {
    for (int n : group.nodes) run_alone(nodes[static_cast<size_t>(n)]);
    return;
  }
  if (program.steps.size() == 1 && program.dropped > 0) {
    return run_alone(*program.steps[0].node);
  }
  FusedKernel& kernel = report_.kernels[str(names_of(program), " over ", program.space.numel())];
  try {
    const KernelSource source = generate(program);
    if (kernel.launches == 0) sources_.push_back(source.text);
    if (first.device.is_cpu()) run_on_cpu(program);
    else run_on_cuda(source, first.device);
  } catch (const Error& error) {
    // The nodes still have all their memory: they can run one by one.
    if (report_.failure.empty()) report_.failure = error.what();
    for (int n : group.nodes) run_alone(nodes[static_cast<size_t>(n)]);
    return;
  }
  ++report_.launched;
  report_.bytes_saved += program.saved;
  kernel.operators = names_of(program);
  kernel.elements = program.space.numel();
  kernel.steps = static_cast<int>(program.steps.size());
  kernel.loads = static_cast<int>(program.loads.size());
  kernel.stores = static_cast<int>(program.stores.size());
  ++kernel.launches;
  kernel.bytes_saved += program.saved;
}

}  // namespace vt::fuse
