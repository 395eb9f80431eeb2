// A node of the backward graph: turns the gradients of an operation's outputs into gradients of its
// inputs.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/intrusive.h"
#include "tensor/tensor.h"

namespace vt {

class Node;

// Where a gradient goes: input `slot` of `node`. A null node means that nobody wants it.
struct Edge {
  Ref<Node> node;
  uint32_t slot = 0;
};

using GradHook =
    std::function<Tensor(const Tensor& grad)>;  // returns a replacement, or an undefined tensor

class Node : public RefCounted<Node> {
 public:
  Node(Device device, int outputs, int edges);
  virtual ~Node();
  static void destroy(Node* node);

  virtual const char* name() const = 0;
  // grads: one for each output of the operation, undefined where none arrived (at least one did).
  // Fills `out`, one for each edge; may leave those undefined that `wants` denies.
  virtual void apply(std::span<Tensor> grads, std::span<Tensor> out) = 0;
  // Where a first gradient may be written at once or, for one who has `adds`, a later one added:
  // *adds says which. Undefined where there is no such memory, or where it is lent already. It
  // stays lent to the pass `borrower` until it is applied or returned.
  virtual Tensor lend_place(const void* borrower, bool* adds) {
    (void)borrower;
    (void)adds;
    return {};
  }
  virtual void return_place(const void* borrower) { (void)borrower; }
  // Drops what was saved for backward; a later apply reports that the graph is gone.
  virtual void release_saved() = 0;

  Device device() const { return device_; }
  Stream stream() const { return stream_; }
  uint64_t sequence() const { return sequence_; }  // later operations have larger numbers
  int outputs() const { return outputs_; }
  int edge_count() const { return edge_count_; }
  Edge& edge(int i) { return edges()[i]; }
  bool wants(int i) const { return static_cast<bool>(edges()[i].node); }
  void set_edge(int i, const Tensor& input);  // the input's gradient edge

  // Hooks see the gradient of one output before apply does.
  int add_hook(int output, GradHook hook);
  void remove_hook(int id);
  bool has_hooks() const { return static_cast<bool>(hooks_); }
  void run_hooks(std::span<Tensor> grads);

 private:
  static constexpr int kInlineEdges = 3;
  struct Hook {
    int id, output;
    GradHook call;
  };

  Edge* edges() { return more_edges_ ? more_edges_.get() : inline_edges_; }
  const Edge* edges() const { return more_edges_ ? more_edges_.get() : inline_edges_; }

  uint64_t sequence_;
  Stream stream_;
  Device device_;
  int outputs_, edge_count_;
  Edge inline_edges_[kInlineEdges];
  std::unique_ptr<Edge[]> more_edges_;
  std::unique_ptr<std::vector<Hook>> hooks_;
};

}  // namespace vt
