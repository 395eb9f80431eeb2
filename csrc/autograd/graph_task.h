// One backward call: which nodes it meets, how many consumers each of them waits for, and what one
// of them does when its turn comes. Newest nodes run first.
#pragma once
#include <array>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "autograd/engine.h"
#include "autograd/node_table.h"
#include "autograd/pass_streams.h"

namespace vt {

class Lanes;

// For heaps: the newest node on top.
struct NewestLast {
  bool operator()(const NodeState* a, const NodeState* b) const {
    return a->node->sequence() < b->node->sequence();
  }
};

class GraphTask {
 public:
  GraphTask(std::span<const Tensor> roots, std::span<const Tensor> grads,
            std::span<const Tensor> inputs, BackwardOptions options);
  ~GraphTask();
  GraphTask(const GraphTask&) = delete;
  GraphTask& operator=(const GraphTask&) = delete;

  void run();
  std::vector<Tensor> take_captures() { return std::move(captures_); }

 private:
  friend class Lanes;
  class Places;
  struct Target {
    Node* node;
    int slot;
  };

  NodeState& discover(Node* node);
  void count_dependencies();
  void mark_needed();
  bool spans_devices() const;
  bool spans_streams() const;

  void run_here();
  // Leaves in `outputs` one gradient an edge.
  void execute(NodeState& state, std::vector<Tensor>& outputs);
  void capture(NodeState& state);
  static void accumulate(Tensor& sum, Tensor grad);  // undefined: nothing waits yet
  // Held while gradients that wait for a node are looked at or added to.
  std::unique_lock<std::mutex> hold(const NodeState* state);

  BackwardOptions options_;
  std::vector<Tensor> captures_;
  std::vector<Target> targets_;
  std::vector<Ref<Node>> roots_;
  NodeTable table_;
  std::vector<NodeState*> order_;
  std::array<uint64_t, kDeviceTypeCount> devices_{};
  std::mutex borrowed_mutex_;
  std::vector<Node*> borrowed_from_;

  PassStreams* streams_ = nullptr;  // of a pass over several devices, or streams of a GPU
  Lanes* lanes_ = nullptr;          // where their workers run it
};

}  // namespace vt
