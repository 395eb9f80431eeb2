// Handing ready nodes to workers, and gradients from one worker's node to the next one's.
#include "autograd/lanes.h"

#include <algorithm>

#include "autograd/grad_mode.h"
#include "device/cpu/parallel.h"
#include "device/worker.h"

namespace vt {

Lanes::Lanes(GraphTask& task) : task_(task) {
  int count = 0;
  for (int type = 0; type < kDeviceTypeCount; ++type)
    for (int i = 0; i < kMaxDevices; ++i)
      if (task.devices_[type] >> i & 1) {
        lanes_[type][i] = std::make_unique<Lane>();
        lanes_[type][i]->device = {static_cast<DeviceType>(type), static_cast<uint8_t>(i)};
        ++count;
      }
  threads_each_ = std::max(1, num_threads() / count);
}

std::mutex& Lanes::guard_of(const NodeState* state) {
  return guards_[(reinterpret_cast<uintptr_t>(state) >> 6) % guards_.size()];
}

void Lanes::run() {
  outstanding_ = static_cast<int64_t>(task_.order_.size());
  std::vector<NodeState*> starts;
  for (NodeState* state : task_.order_)
    if (state->waiting_for == 0) starts.push_back(state);
  for (NodeState* state : starts) push(state);
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return outstanding_ == 0 && running_ == 0; });
  if (failure_) std::rethrow_exception(failure_);
}

void Lanes::push(NodeState* state) {
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
    std::lock_guard lock(mutex_);
    ++running_;
  }
  worker(device).submit([this, &lane] { drain(lane); });
}

void Lanes::drain(Lane& lane) {
  GradMode mode(task_.options_.create_graph);
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
    run_node(*state, outputs);
  }
  std::lock_guard lock(mutex_);
  --running_;
  done_.notify_all();  // under the lock: the caller may destroy this as soon as it sees the counts
}

void Lanes::fail_with_current_exception() {
  std::lock_guard lock(mutex_);
  if (!failure_) failure_ = std::current_exception();
}

void Lanes::run_node(NodeState& state, std::vector<Tensor>& outputs) {
  Node* node = state.node;
  bool failed;
  {
    std::lock_guard lock(mutex_);
    failed = failure_ != nullptr;
  }
  if (!failed) {
    try {
      task_.streams_->enter(*node);
      task_.execute(state, outputs);
    } catch (...) {
      fail_with_current_exception();
      failed = true;
    }
  }
  if (failed) outputs.assign(node->edge_count(), Tensor());
  for (int e = 0; e < node->edge_count(); ++e) {
    const Edge& edge = node->edge(e);
    if (!edge.node) continue;
    NodeState* next = task_.table_.find(edge.node.get());
    bool ready;
    {
      std::lock_guard lock(guard_of(next));
      if (outputs[e].defined()) {
        try {
          task_.streams_->hand_over(outputs[e], *node, *edge.node);
          GraphTask::accumulate(next->grads[edge.slot], std::move(outputs[e]));
        } catch (...) { fail_with_current_exception(); }
      }
      ready = --next->waiting_for == 0;
    }
    if (ready) push(next);
  }
  std::lock_guard lock(mutex_);
  --outstanding_;
}

}  // namespace vt
