// The list of what was put off, and running it.
#include "fuse/recorder.h"

#include <algorithm>

#include "device/backend.h"
#include "device/deferred.h"
#include "fuse/interpreter.h"
#include "fuse/launch.h"
#include "fuse/patterns/pattern.h"
#include "fuse/run_node.h"

namespace vt::fuse {
namespace {

constexpr size_t kMostPending = 96;  // operators

// Of freed blocks the list may hold so much at any time, and more while the device has had more in
// use before: that costs no memory, where a run in between would cut patterns apart.
constexpr size_t kKeptAtAnyTime = size_t{512} << 20;

bool at_its_peak(Device device) {
  const MemoryStats memory = backend(device).memory_stats(device.index);
  return memory.allocated >= memory.peak_allocated;
}

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
  unplaced_.clear();
  placed_.clear();
  for (const Kept& block : kept) Storage::give_back(block.device, block.data, block.bytes);
}

void Recorder::add(Node node) {
  std::lock_guard lock(mutex_);
  const Device device = node.device;
  node.stream = backend(device).current_stream(device.index);
  ++report_.recorded;
  pending_.push_back(std::move(node));
  if (pending_.size() >= kMostPending || (kept_bytes_ >= kKeptAtAnyTime && at_its_peak(device)))
    flush();
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
  if (enabled(kDeadWork) && enabled(kPointwise) && give_back_early(device, block)) return false;
  kept_.push_back({device, data, bytes});
  kept_bytes_ += bytes;
  return true;
}

bool Recorder::give_back_early(Device device, const Range& block) {
  std::vector<Range> written;
  auto covered = [&](const Range& range) {
    return std::any_of(written.begin(), written.end(), [&](const Range& each) {
      return each.begin <= range.begin && range.end <= each.end;
    });
  };
  std::vector<Window*> windows;
  for (Node& node : pending_) {
    if (!(node.device == device)) continue;
    if (!node.elementwise()) {
      const auto hit = [&](const Range& range) { return range.overlaps(block); };
      if (std::any_of(node.reads.begin(), node.reads.end(), hit) ||
          std::any_of(node.writes.begin(), node.writes.end(), hit))
        return false;
      continue;
    }
    for (int i = 0; i < node.inputs; ++i) {
      if (i == node.scalar_at) continue;
      const Range range{node.in[i].data, node.in[i].end(node.space)};
      if (!range.overlaps(block)) continue;
      if (!covered(range)) return false;  // what was there before the list is still to be read
      windows.push_back(&node.in[i]);
    }
    const Range range{node.out.data, node.out.end(node.space)};
    if (!range.overlaps(block)) continue;
    if (is_run(node.out, node.space, range.end - range.begin)) written.push_back(range);
    else if (!covered(range)) return false;
    windows.push_back(&node.out);
  }
  const auto size = static_cast<uintptr_t>(block.end - block.begin);
  char* const to = reinterpret_cast<char*>(next_unplaced_);
  next_unplaced_ += (size + 511) / 512 * 512;
  unplaced_.push_back({to, to + size});
  for (Window* window : windows) window->data = to + (window->data - block.begin);
  return true;
}

bool Recorder::place(std::vector<Node>& nodes, const Window& window, Device device,
                     DeadRanges& dead) {
  if (!is_unplaced(window)) return false;
  const auto found = std::find_if(unplaced_.begin(), unplaced_.end(), [&](const Range& block) {
    return block.begin <= window.data && window.data < block.end;
  });
  VT_CHECK(found != unplaced_.end(), kRuntime, "fuse: a value has no memory");
  const Range block = *found;
  unplaced_.erase(found);
  placed_.push_back(Storage::create(device, static_cast<size_t>(block.end - block.begin)));
  char* const to = static_cast<char*>(placed_.back()->data());
  auto move = [&](Window& each) {
    if (block.begin <= each.data && each.data < block.end)
      each.data = to + (each.data - block.begin);
  };
  for (Node& node : nodes) {
    move(node.out);
    for (Window& in : node.in) move(in);
  }
  dead.push_back({to, to + (block.end - block.begin)});
  return true;
}

bool Recorder::place(std::vector<Node>& nodes, const std::vector<int>& which, DeadRanges& dead) {
  bool any = false;
  for (int n : which) {
    Node& node = nodes[static_cast<size_t>(n)];
    if (!node.elementwise()) continue;
    any |= place(nodes, node.out, node.device, dead);
    for (int i = 0; i < node.inputs; ++i)
      if (i != node.scalar_at) any |= place(nodes, node.in[i], node.device, dead);
  }
  return any;
}

namespace {

// Whatever thread runs the pending work, it goes where it was queued: the streams of the nodes are
// current while this lives. (A change of stream flushes, so a device has one.)
class OnStreamsOf {
 public:
  explicit OnStreamsOf(const std::vector<Node>& nodes) {
    for (const Node& node : nodes) {
      if (node.device.is_cpu()) continue;
      Backend& own = backend(node.device);
      const Stream now = own.current_stream(node.device.index);
      if (now == node.stream) continue;
      before_.push_back(now);
      own.set_current_stream(node.stream);
    }
  }
  ~OnStreamsOf() {
    for (const Stream& stream : before_) backend(stream.device).set_current_stream(stream);
  }
  OnStreamsOf(const OnStreamsOf&) = delete;
  OnStreamsOf& operator=(const OnStreamsOf&) = delete;

 private:
  std::vector<Stream> before_;
};

}  // namespace

std::optional<Node> Recorder::last_writer(const Tensor& x) const {
  std::lock_guard lock(mutex_);
  const char* begin = x.data<char>();
  const Range range{begin, begin + x.bytes()};
  const auto hit = [&](const Range& each) { return each.overlaps(range); };
  for (auto node = pending_.rbegin(); node != pending_.rend(); ++node) {
    const Access access = access_of(*node);
    if (std::any_of(access.writes.begin(), access.writes.end(), hit)) return *node;
  }
  return std::nullopt;
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
  dead.insert(dead.end(), unplaced_.begin(), unplaced_.end());
  ++report_.flushes;
  const OnStreamsOf streams(nodes);
  try {
    run(std::move(nodes), std::move(dead));
  } catch (...) {
    release();
    throw;
  }
  release();
}

void Recorder::rewrite(std::vector<Node>& nodes, DeadRanges& dead) {
  PatternList list(
      nodes, dead, [&](int i) { place(nodes, std::vector<int>{i}, dead); },
      [&](const Dims& sizes, DType dtype, Device device) {
        const Tensor made = empty(sizes, dtype, device);
        placed_.push_back(made.impl()->storage);
        return unowned(made);
      });
  auto apply = [&](Pass pass, const char* name, int (*pattern)(PatternList&)) {
    if (!enabled(pass)) return;
    const int found = pattern(list);
    if (found > 0) report_.rewrites[name] += found;
    list.compact();
  };
  apply(kAddNorm, "add_norm", &fuse_add_norm);
  apply(kCrossEntropy, "cross_entropy", &fuse_cross_entropy);
  // Before what the product on the way back, and its result, could be joined with.
  apply(kLinearCrossEntropy, "linear_cross_entropy", &fuse_linear_cross_entropy);
  apply(kGeluSlope, "gelu_slope", &fuse_gelu_slope);  // before linear_gelu, which wants the same
  apply(kLinearGelu, "linear_gelu", &fuse_linear_gelu);
  apply(kGeluBackward, "gelu_backward", &fuse_gelu_backward);
  apply(kLinearAdd, "linear_add", &fuse_linear_add);
  apply(kCopies, "copies", &fuse_copies);
  apply(kColumnSums, "column_sums", &fuse_column_sums);  // their target is known by now
  apply(kAttentionSums, "attention_sums", &fuse_attention_sums);
  apply(kNormBackwardAdd, "norm_backward_add", &fuse_norm_backward_add);
  apply(kNormBackwardSum, "norm_backward_sum", &fuse_norm_backward_sum);
}

void Recorder::run(std::vector<Node> nodes, DeadRanges dead) {
  rewrite(nodes, dead);
  for (const Group& group : make_groups(nodes, enabled(kPointwise))) run_group(nodes, group, dead);
}

void Recorder::run_alone(const Node& node) {
  run_node(node);
  ++report_.launched;
  ++report_.alone[node.name];
}

void Recorder::run_group(std::vector<Node>& nodes, const Group& group, DeadRanges& dead) {
  const Node& first = nodes[static_cast<size_t>(group.nodes[0])];
  auto one_by_one = [&] {
    place(nodes, group.nodes, dead);
    for (int n : group.nodes) run_alone(nodes[static_cast<size_t>(n)]);
  };
  if (group.nodes.size() == 1) {
    if (first.elementwise() && is_private(nodes, group.nodes[0], group, dead)) ++report_.dropped;
    else one_by_one();
    return;
  }
  Program program = make_program(nodes, group, dead);
  std::vector<Window> windows = program.loads;
  for (const Store& store : program.stores) windows.push_back(store.window);
  bool moved = false;
  for (const Window& window : windows) moved |= place(nodes, window, first.device, dead);
  if (moved) program = make_program(nodes, group, dead);
  report_.dropped += program.dropped;
  report_.not_stored += program.not_stored;
  if (program.stores.empty()) return;
  if (program.row != 0 && !rows_are_simple(program)) return one_by_one();
  if (program.steps.size() == 1 && program.dropped > 0) {
    const auto at = static_cast<int>(program.steps[0].node - nodes.data());
    place(nodes, std::vector<int>{at}, dead);
    return run_alone(nodes[static_cast<size_t>(at)]);
  }
  FusedKernel& kernel = report_.kernels[str(names_of(program), " over ", program.space.numel())];
  try {
    const KernelSource source = generate(program);
    if (kernel.launches == 0) sources_.push_back(source.text);
    if (first.device.is_cpu()) run_on_cpu(program);
    else run_on_cuda(source, first.device);
  } catch (const Error& error) {
    if (report_.failure.empty()) report_.failure = error.what();
    return one_by_one();
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
