// One GraphTask a backward call: counts how many consumers each node waits for, then runs ready
// nodes.
#include "autograd/engine.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "autograd/between_streams.h"
#include "autograd/grad_mode.h"
#include "autograd/gradient_place.h"
#include "autograd/node_table.h"
#include "autograd/variable.h"
#include "device/capture.h"
#include "device/cpu/parallel.h"
#include "device/profiler.h"
#include "device/worker.h"
#include "ops/launch_failed.h"
#include "ops/ops.h"

namespace vt {
namespace {

struct NewestLast {
  bool operator()(const NodeState* a, const NodeState* b) const {
    return a->node->sequence() < b->node->sequence();
  }
};

// Ready nodes of one device, newest on top.
struct Lane {
  Device device;
  std::mutex mutex;
  std::vector<NodeState*> ready;
  bool running = false;
};

class GraphTask {
 public:
  GraphTask(std::span<const Tensor> roots, std::span<const Tensor> grads,
            std::span<const Tensor> inputs, BackwardOptions options)
      : options_(options), captures_(inputs.size()) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Edge edge = gradient_edge(inputs[i]);
      VT_CHECK(edge.node, kRuntime, "grad: input ", i, " does not require grad: ", inputs[i]);
      targets_.push_back({edge.node.get(), static_cast<int>(edge.slot)});
    }
    for (size_t i = 0; i < roots.size(); ++i) {
      VT_CHECK(roots[i].requires_grad(), kRuntime, "element ", i,
               " of tensors does not require grad and does not have a grad_fn");
      const Edge edge = gradient_edge(roots[i]);
      roots_.push_back(edge.node);
      NodeState& state = discover(edge.node.get());
      accumulate(state.grads[edge.slot],
                 start_gradient(roots[i], i < grads.size() ? grads[i] : Tensor()));
    }
    count_dependencies();
    if (!targets_.empty()) mark_needed();
  }

  void run() {
    // A hook that runs backward is on a worker already; waiting there for that worker would never
    // end.
    if (!spans_devices()) return run_here();
    Streams streams(*this);
    // A capture is not for several threads at once.
    if (on_worker_thread() || streams.captured()) run_here();
    else run_on_workers();
    streams.join();
  }

  ~GraphTask() {
    for (Node* node : borrowed_from_) node->return_place(this);  // of a pass that failed
  }
  GraphTask(const GraphTask&) = delete;
  GraphTask& operator=(const GraphTask&) = delete;

  std::vector<Tensor> take_captures() { return std::move(captures_); }

 private:
  struct Target {
    Node* node;
    int slot;
  };

  static Tensor start_gradient(const Tensor& root, const Tensor& given) {
    if (!given.defined()) {
      VT_CHECK(root.numel() == 1, kRuntime,
               "grad can be implicitly created only for scalar outputs, got ", root,
               "; pass a gradient of that shape");
      return ones_like(root, {}, {});
    }
    VT_CHECK(given.sizes() == root.sizes(), kRuntime, "backward: gradient ", given,
             " does not match its tensor ", root);
    return given.dtype() == root.dtype() ? given : to_dtype(given, root.dtype());
  }

  NodeState& discover(Node* node) {
    auto [state, is_new] = table_.find_or_add(node);
    if (is_new) {
      order_.push_back(state);
      devices_[static_cast<int>(node->device().type)] |= uint64_t{1} << node->device().index;
    }
    return *state;
  }

  void count_dependencies() {
    for (size_t i = 0; i < order_.size(); ++i) {  // order_ grows as nodes are discovered
      Node* node = order_[i]->node;
      for (int e = 0; e < node->edge_count(); ++e)
        if (Node* next = node->edge(e).node.get()) ++discover(next).waiting_for;
    }
  }

  // Only nodes from which an input can be reached need to run. Sequence numbers order producers
  // before consumers, except for the rare view whose history was renewed while its consumer was
  // made: hence until nothing changes.
  void mark_needed() {
    for (const Target& target : targets_)
      if (NodeState* state = table_.find(target.node)) state->captured = true;
    std::vector<NodeState*> oldest_first = order_;
    std::sort(oldest_first.begin(), oldest_first.end(), NewestLast{});
    for (NodeState* state : oldest_first) state->needed = false;
    for (bool changed = true; changed;) {
      changed = false;
      for (NodeState* state : oldest_first) {
        if (state->needed) continue;
        for (int e = 0; e < state->node->edge_count() && !state->needed; ++e)
          if (Node* next = state->node->edge(e).node.get()) {
            const NodeState* below = table_.find(next);
            state->needed = below->needed || below->captured;
          }
        changed |= state->needed;
      }
    }
  }

  bool spans_devices() const {
    int count = 0;
    for (uint64_t mask : devices_) count += __builtin_popcountll(mask);
    return count > 1;
  }

  // Note [Streams of a pass]
  // Backward of an operation is queued where its forward was, the gradient of a leaf where the
  // caller looks for it: on the stream that is current where backward was called. Gradients that
  // pass from one stream of a device to another are ordered on the way; copies between devices
  // order themselves with the streams that are current on both. Passes of different streams that
  // meet at a leaf are ordered there (AccumulateGrad::follow_last_writer).
  Stream stream_of(const Node& node) const {
    return node.edge_count() == 0 ? home_[node.device().index] : node.stream();
  }

  static void make_current(Stream stream) {
    Backend& device = backend(stream.device);
    if (!(device.current_stream(stream.device.index) == stream)) device.set_current_stream(stream);
  }

  void enter_streams(Node& node) const {
    for (int e = 0; e < node.edge_count(); ++e) {
      const Node* next = node.edge(e).node.get();
      if (next && next->device().is_cuda() && next->device() != node.device())
        make_current(stream_of(*next));
    }
    if (node.device().is_cuda()) make_current(stream_of(node));
  }

  // The gradient that `node` has made will be used on the stream of `next`, which becomes current.
  void hand_over(const Tensor& grad, const Node& node, const Node& next) const {
    if (!grad.defined() || !next.device().is_cuda()) return;
    const Stream to = stream_of(next);
    if (node.device() == next.device()) pass_on(grad, stream_of(node), to);
    make_current(to);
  }

  // The current streams of the thread that called backward, which come back at the end.
  class Streams {
   public:
    explicit Streams(GraphTask& task) : task_(task) {
      const uint64_t devices = task.devices_[static_cast<int>(DeviceType::kCUDA)];
      for (int i = 0; i < kMaxDevices; ++i)
        if (devices >> i & 1) {
          const Stream stream = cuda_backend().current_stream(i);
          task.home_[i] = stream;
          home_.push_back(stream);
        }
      for (const Ref<Node>& root : task.roots_) {
        if (!root->device().is_cuda()) continue;
        const Stream to = task.stream_of(*root);
        for (const Tensor& grad : task.table_.find(root.get())->grads)
          if (grad.defined()) pass_on(grad, task.home_[root->device().index], to);
      }
    }
    ~Streams() {
      for (Stream stream : home_) make_current(stream);
    }
    Streams(const Streams&) = delete;
    Streams& operator=(const Streams&) = delete;

    bool captured() const {
      return std::any_of(home_.begin(), home_.end(),
                         [](Stream stream) { return any_capture() && capture_of(stream); });
    }
    // What the caller queues later follows the pass.
    void join() const {
      std::vector<Stream> used;
      for (const NodeState* state : task_.order_) {
        if (!state->node->device().is_cuda()) continue;
        const Stream stream = task_.stream_of(*state->node);
        if (std::find(used.begin(), used.end(), stream) == used.end()) used.push_back(stream);
      }
      for (Stream stream : used) order_streams(stream, task_.home_[stream.device.index]);
      for (size_t i = 0; i < task_.captures_.size(); ++i) {
        const Node& node = *task_.targets_[i].node;
        if (task_.captures_[i].defined() && node.device().is_cuda())
          pass_on(task_.captures_[i], task_.stream_of(node), task_.home_[node.device().index]);
      }
    }

   private:
    GraphTask& task_;
    std::vector<Stream> home_;
  };

  void run_here() {
    GradMode mode(options_.create_graph);
    std::vector<NodeState*> ready;
    for (NodeState* state : order_)
      if (state->waiting_for == 0) ready.push_back(state);
    std::make_heap(ready.begin(), ready.end(), NewestLast{});
    std::vector<Tensor> outputs;
    const bool several = spans_devices();
    while (!ready.empty()) {
      std::pop_heap(ready.begin(), ready.end(), NewestLast{});
      NodeState* state = ready.back();
      ready.pop_back();
      Node* node = state->node;
      if (several) enter_streams(*node);
      execute(*state, outputs);
      for (int e = 0; e < node->edge_count(); ++e) {
        const Edge& edge = node->edge(e);
        if (!edge.node) continue;
        NodeState* next = table_.find(edge.node.get());
        if (several) hand_over(outputs[e], *node, *edge.node);
        if (outputs[e].defined()) accumulate(next->grads[edge.slot], std::move(outputs[e]));
        if (--next->waiting_for == 0) {
          ready.push_back(next);
          std::push_heap(ready.begin(), ready.end(), NewestLast{});
        }
      }
    }
  }

  // Leaves in `outputs` one gradient an edge.
  void execute(NodeState& state, std::vector<Tensor>& outputs) {
    Node& node = *state.node;
    outputs.assign(node.edge_count(), Tensor());
    bool any = false;
    for (const Tensor& grad : state.grads) any |= grad.defined();
    if (any && (state.needed || state.captured)) {
      if (VT_UNLIKELY(node.has_hooks())) node.run_hooks(state.grads);
      if (VT_UNLIKELY(state.captured)) capture(state);
      if (state.needed) {
        Places places(*this, state);
        PlaceScope scope(options_.create_graph || !targets_.empty() ? nullptr : &places);
        const profiler::Scope profiled(profiler::HostEvent::Kind::kBackward, node.name());
        const GraphKept kept(options_.keep_graph);
        try {
          node.apply(state.grads, outputs);
        } catch (const LaunchError& error) {
          launch_failed(error, node.name(), std::vector(state.grads.begin(), state.grads.end()));
        }
      }
    }
    state.grads.clear();
    if (!options_.keep_graph && targets_.empty()) node.release_saved();
    else if (!options_.keep_graph && state.needed) node.release_saved();
  }

  // The bound memory of the leaf behind an edge, if the node that is being applied brings the only
  // gradient of this pass and nobody has hooked it.
  class Places final : public PlaceSource {
   public:
    Places(GraphTask& task, NodeState& state) : task_(task), state_(state) {}
    Tensor place_of(int e, bool* adds) override {
      const Edge& edge = state_.node->edge(e);
      if (!edge.node || edge.node->has_hooks()) return {};
      NodeState* next = task_.table_.find(edge.node.get());
      {
        std::lock_guard lock(task_.stripe(next));
        if (next->waiting_for != 1 || next->grads[edge.slot].defined()) return {};
      }
      Tensor place = edge.node->lend_place(&task_, adds);
      if (place.defined()) {
        std::lock_guard lock(task_.done_mutex_);
        task_.borrowed_from_.push_back(edge.node.get());
      }
      return place;
    }

   private:
    GraphTask& task_;
    NodeState& state_;
  };

  void capture(NodeState& state) {
    for (size_t i = 0; i < targets_.size(); ++i)
      if (targets_[i].node == state.node) captures_[i] = state.grads[targets_[i].slot];
  }

  static void accumulate(Tensor& sum, Tensor grad) {
    if (!sum.defined()) sum = std::move(grad);
    else sum = add(sum, grad, 1);
  }

  // --- several devices ---

  void run_on_workers() {
    int lanes = 0;
    for (int type = 0; type < kDeviceTypeCount; ++type)
      for (int i = 0; i < kMaxDevices; ++i)
        if (devices_[type] >> i & 1) {
          lanes_[type][i] = std::make_unique<Lane>();
          lanes_[type][i]->device = {static_cast<DeviceType>(type), static_cast<uint8_t>(i)};
          ++lanes;
        }
    threads_each_ = std::max(1, num_threads() / lanes);
    outstanding_ = static_cast<int64_t>(order_.size());
    std::vector<NodeState*> starts;
    for (NodeState* state : order_)
      if (state->waiting_for == 0) starts.push_back(state);
    for (NodeState* state : starts) push(state);
    std::unique_lock lock(done_mutex_);
    done_.wait(lock, [this] { return outstanding_ == 0 && running_lanes_ == 0; });
    if (failure_) std::rethrow_exception(failure_);
  }

  void push(NodeState* state) {
    const Device device = state->node->device();
    Lane& lane = *lanes_[static_cast<int>(device.type)][device.index];
    {
      std::lock_guard lock(lane.mutex);
      lane.ready.push_back(state);
      std::push_heap(lane.ready.begin(), lane.ready.end(), NewestLast{});
      if (lane.running) return;
      lane.running = true;
    }
    {
      std::lock_guard lock(done_mutex_);
      ++running_lanes_;
    }
    worker(device).submit([this, &lane] { drain(lane); });
  }

  void drain(Lane& lane) {
    GradMode mode(options_.create_graph);
    ThreadLimit limit(threads_each_);
    std::vector<Tensor> outputs;
    for (;;) {
      NodeState* state;
      {
        std::lock_guard lock(lane.mutex);
        if (lane.ready.empty()) {
          lane.running = false;
          break;
        }
        std::pop_heap(lane.ready.begin(), lane.ready.end(), NewestLast{});
        state = lane.ready.back();
        lane.ready.pop_back();
      }
      run_in_lane(*state, outputs);
    }
    std::lock_guard lock(done_mutex_);
    --running_lanes_;
    done_.notify_all();  // under the lock: the caller may destroy this task as soon as it sees the
                         // counts
  }

  void run_in_lane(NodeState& state, std::vector<Tensor>& outputs) {
    Node* node = state.node;
    bool failed;
    {
      std::lock_guard lock(done_mutex_);
      failed = failure_ != nullptr;
    }
    if (!failed) {
      try {
        enter_streams(*node);
        execute(state, outputs);
      } catch (...) {
        std::lock_guard lock(done_mutex_);
        if (!failure_) failure_ = std::current_exception();
        failed = true;
      }
    }
    if (failed) outputs.assign(node->edge_count(), Tensor());
    for (int e = 0; e < node->edge_count(); ++e) {
      const Edge& edge = node->edge(e);
      if (!edge.node) continue;
      NodeState* next = table_.find(edge.node.get());
      bool ready;
      {
        std::lock_guard lock(stripe(next));
        if (outputs[e].defined()) {
          try {
            hand_over(outputs[e], *node, *edge.node);
            accumulate(next->grads[edge.slot], std::move(outputs[e]));
          } catch (...) {
            std::lock_guard failure_lock(done_mutex_);
            if (!failure_) failure_ = std::current_exception();
          }
        }
        ready = --next->waiting_for == 0;
      }
      if (ready) push(next);
    }
    std::lock_guard lock(done_mutex_);
    --outstanding_;
  }

  std::mutex& stripe(const NodeState* state) {
    return stripes_[(reinterpret_cast<uintptr_t>(state) >> 6) % stripes_.size()];
  }

  BackwardOptions options_;
  std::vector<Tensor> captures_;
  std::vector<Target> targets_;
  std::vector<Ref<Node>> roots_;
  NodeTable table_;
  std::vector<NodeState*> order_;
  std::vector<Node*> borrowed_from_;  // under done_mutex_
  std::array<uint64_t, kDeviceTypeCount> devices_{};
  std::array<Stream, kMaxDevices> home_{};  // of a pass over several devices: the caller's streams

  std::array<std::array<std::unique_ptr<Lane>, kMaxDevices>, kDeviceTypeCount> lanes_;
  std::array<std::mutex, 16> stripes_;
  std::mutex done_mutex_;
  std::condition_variable done_;
  int64_t outstanding_ = 0;
  int running_lanes_ = 0;
  int threads_each_ = 1;
  std::exception_ptr failure_;
};

}  // namespace

void backward(std::span<const Tensor> roots, std::span<const Tensor> grads,
              BackwardOptions options) {
  GraphTask(roots, grads, {}, options).run();
}

std::vector<Tensor> gradients(std::span<const Tensor> roots, std::span<const Tensor> grads,
                              std::span<const Tensor> inputs, BackwardOptions options,
                              bool allow_unused) {
  GraphTask task(roots, grads, inputs, options);
  task.run();
  std::vector<Tensor> result = task.take_captures();
  for (size_t i = 0; i < result.size(); ++i)
    VT_CHECK(
        allow_unused || result[i].defined(), kRuntime,
        "grad: one of the differentiated tensors (input ", i, ", ", inputs[i],
        ") appears to not have been used in the graph; set allow_unused=True if this is desired");
  return result;
}

}  // namespace vt
