// Discovery of the graph, its walk on the calling thread, and what each node is given.
#include "autograd/graph_task.h"

#include "autograd/autocast.h"

#include <algorithm>
#include <bit>

#include "autograd/grad_mode.h"
#include "autograd/gradient_place.h"
#include "autograd/lanes.h"
#include "autograd/variable.h"
#include "device/capture.h"
#include "device/profiler.h"
#include "device/worker.h"
#include "ops/launch_failed.h"
#include "ops/ops.h"

namespace vt {
namespace {

Tensor start_gradient(const Tensor& root, const Tensor& given) {
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

}  // namespace

void GraphTask::accumulate(Tensor& sum, Tensor grad) {
  if (!sum.defined()) sum = std::move(grad);
  else sum = add(sum, grad, 1);
}

GraphTask::GraphTask(std::span<const Tensor> roots, std::span<const Tensor> grads,
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

GraphTask::~GraphTask() {
  for (Node* node : borrowed_from_) node->return_place(this);  // of a pass that failed
}

NodeState& GraphTask::discover(Node* node) {
  auto [state, is_new] = table_.find_or_add(node);
  if (is_new) {
    order_.push_back(state);
    devices_[static_cast<int>(node->device().type)] |= uint64_t{1} << node->device().index;
  }
  return *state;
}

void GraphTask::count_dependencies() {
  for (size_t i = 0; i < order_.size(); ++i) {  // order_ grows as nodes are discovered
    Node* node = order_[i]->node;
    for (int e = 0; e < node->edge_count(); ++e)
      if (Node* next = node->edge(e).node.get()) ++discover(next).waiting_for;
  }
}

// Only nodes from which an input can be reached need to run. Sequence numbers order producers
// before consumers, except for the rare view whose history was renewed while its consumer was
// made: hence until nothing changes.
void GraphTask::mark_needed() {
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

bool GraphTask::spans_devices() const {
  int count = 0;
  for (uint64_t mask : devices_) count += __builtin_popcountll(mask);
  return count > 1;
}

// Of a pass on one GPU: was something of it queued elsewhere than where backward is called? Within
// a capture all is queued on the captured stream: another one need not be part of it.
bool GraphTask::spans_streams() const {
  const uint64_t gpus = devices_[static_cast<int>(DeviceType::kCUDA)];
  if (gpus == 0) return false;
  const Stream home = cuda_backend().current_stream(std::countr_zero(gpus));
  const bool apart = std::any_of(order_.begin(), order_.end(), [&](const NodeState* state) {
    return state->node->edge_count() > 0 && !(state->node->stream() == home);
  });
  return apart && !(any_capture() && capture_of(home));
}

void GraphTask::run() {
  const bool one_device = !spans_devices();
  if (one_device && !spans_streams()) return run_here();
  PassStreams streams(devices_[static_cast<int>(DeviceType::kCUDA)]);
  streams_ = &streams;
  for (const Ref<Node>& root : roots_)
    for (const Tensor& grad : table_.find(root.get())->grads) streams.start(grad, *root);
  // A hook that runs backward is on a worker already, and waiting there for that worker would never
  // end; a capture is not for several threads at once.
  if (one_device || on_worker_thread() || streams.captured()) {
    run_here();
  } else {
    Lanes lanes(*this);
    lanes_ = &lanes;
    lanes.run();
  }
  for (const NodeState* state : order_) streams.join(*state->node);
  for (size_t i = 0; i < captures_.size(); ++i) streams.bring_home(captures_[i], *targets_[i].node);
}

void GraphTask::run_here() {
  GradMode mode(options_.create_graph);
  AutocastOff no_autocast;
  std::vector<NodeState*> ready;
  for (NodeState* state : order_)
    if (state->waiting_for == 0) ready.push_back(state);
  std::make_heap(ready.begin(), ready.end(), NewestLast{});
  std::vector<Tensor> outputs;
  while (!ready.empty()) {
    std::pop_heap(ready.begin(), ready.end(), NewestLast{});
    NodeState* state = ready.back();
    ready.pop_back();
    Node* node = state->node;
    if (streams_) streams_->enter(*node);
    execute(*state, outputs);
    for (int e = 0; e < node->edge_count(); ++e) {
      const Edge& edge = node->edge(e);
      if (!edge.node) continue;
      NodeState* next = table_.find(edge.node.get());
      if (streams_) streams_->hand_over(outputs[e], *node, *edge.node);
      if (outputs[e].defined()) accumulate(next->grads[edge.slot], std::move(outputs[e]));
      if (--next->waiting_for == 0) {
        ready.push_back(next);
        std::push_heap(ready.begin(), ready.end(), NewestLast{});
      }
    }
  }
}

// The bound memory of the leaf behind an edge, if the node that is being applied brings the only
// gradient of this pass and nobody has hooked it.
class GraphTask::Places final : public PlaceSource {
 public:
  Places(GraphTask& task, NodeState& state) : task_(task), state_(state) {}
  Tensor place_of(int e, bool* adds) override {
    const Edge& edge = state_.node->edge(e);
    if (!edge.node || edge.node->has_hooks()) return {};
    NodeState* next = task_.table_.find(edge.node.get());
    {
      const auto lock = task_.hold(next);
      if (next->waiting_for != 1 || next->grads[edge.slot].defined()) return {};
    }
    Tensor place = edge.node->lend_place(&task_, adds);
    if (place.defined()) {
      std::lock_guard lock(task_.borrowed_mutex_);
      task_.borrowed_from_.push_back(edge.node.get());
    }
    return place;
  }

 private:
  GraphTask& task_;
  NodeState& state_;
};

void GraphTask::execute(NodeState& state, std::vector<Tensor>& outputs) {
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

void GraphTask::capture(NodeState& state) {
  for (size_t i = 0; i < targets_.size(); ++i)
    if (targets_[i].node == state.node) captures_[i] = state.grads[targets_[i].slot];
}

std::unique_lock<std::mutex> GraphTask::hold(const NodeState* state) {
  return lanes_ ? std::unique_lock(lanes_->guard_of(state)) : std::unique_lock<std::mutex>();
}

}  // namespace vt
