// The engine's scratch: what one backward call knows about each node it meets.
#pragma once
#include <cstdint>
#include <deque>
#include <vector>

#include "autograd/node.h"

namespace vt {

// The gradients waiting for a node: one place an output; nearly always just one.
class GradSlots {
 public:
  void reset(int count) {
    count_ = count;
    if (count > 1) more_.resize(count);
  }
  Tensor& operator[](int i) { return count_ > 1 ? more_[i] : one_; }
  operator std::span<Tensor>() { return {begin(), static_cast<size_t>(count_)}; }
  Tensor* begin() { return count_ > 1 ? more_.data() : &one_; }
  Tensor* end() { return begin() + count_; }
  void clear() {
    for (Tensor& t : *this) t = Tensor();
  }

 private:
  int count_ = 1;
  Tensor one_;
  std::vector<Tensor> more_;
};

struct NodeState {
  Node* node = nullptr;
  int waiting_for = 0;    // consumers that have not run yet
  bool needed = true;     // lies on a path to a wanted gradient
  bool captured = false;  // its incoming gradient is a result
  GradSlots grads;
};

// Open addressing by pointer; states stay where they are.
class NodeTable {
 public:
  NodeTable() : slots_(64) {}

  NodeState* find(const Node* node) {
    for (size_t i = hash(node);; ++i) {
      NodeState* state = slots_[i & (slots_.size() - 1)];
      if (!state || state->node == node) return state;
    }
  }

  std::pair<NodeState*, bool> find_or_add(Node* node) {
    if (NodeState* found = find(node)) return {found, false};
    if (states_.size() * 2 >= slots_.size()) grow();
    NodeState& state = states_.emplace_back();
    state.node = node;
    state.grads.reset(node->outputs());
    place(&state);
    return {&state, true};
  }

 private:
  static size_t hash(const Node* node) {
    return static_cast<size_t>((reinterpret_cast<uintptr_t>(node) >> 4) * 0x9E3779B97F4A7C15ull >>
                               20);
  }
  void place(NodeState* state) {
    size_t i = hash(state->node);
    while (slots_[i & (slots_.size() - 1)]) ++i;
    slots_[i & (slots_.size() - 1)] = state;
  }
  void grow() {
    slots_.assign(slots_.size() * 4, nullptr);
    for (NodeState& state : states_) place(&state);
  }

  std::deque<NodeState> states_;
  std::vector<NodeState*> slots_;
};

}  // namespace vt
