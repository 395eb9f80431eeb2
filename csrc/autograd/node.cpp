// Life and hooks of backward nodes.
#include "autograd/node.h"

#include <atomic>

#include "autograd/variable.h"

namespace vt {
namespace {

std::atomic<uint64_t> g_sequence{0};
thread_local std::vector<Node*>* t_doomed = nullptr;

}  // namespace

Node::Node(Device device, int outputs, int edges)
    : sequence_(g_sequence.fetch_add(1, std::memory_order_relaxed)),
      device_(device),
      outputs_(outputs),
      edge_count_(edges) {
  if (device.is_cuda()) stream_ = backend(device).current_stream(device.index);
  if (edges > kInlineEdges) more_edges_ = std::make_unique<Edge[]>(edges);
}

Node::~Node() = default;

// A node's edges own further nodes, a million deep in a long recurrence: a loop instead of
// recursion.
void Node::destroy(Node* node) {
  if (t_doomed) {
    t_doomed->push_back(node);
    return;
  }
  std::vector<Node*> doomed;
  t_doomed = &doomed;
  delete node;
  while (!doomed.empty()) {
    Node* next = doomed.back();
    doomed.pop_back();
    delete next;
  }
  t_doomed = nullptr;
}

void Node::set_edge(int i, const Tensor& input) {
  if (input.requires_grad()) edges()[i] = gradient_edge(input);
}

int Node::add_hook(int output, GradHook hook) {
  if (!hooks_) hooks_ = std::make_unique<std::vector<Hook>>();
  const int id = hooks_->empty() ? 0 : hooks_->back().id + 1;
  hooks_->push_back({id, output, std::move(hook)});
  return id;
}

void Node::remove_hook(int id) {
  if (hooks_) std::erase_if(*hooks_, [id](const Hook& hook) { return hook.id == id; });
}

void Node::run_hooks(std::span<Tensor> grads) {
  const std::vector<Hook> hooks = *hooks_;  // a hook may remove itself
  for (const Hook& hook : hooks) {
    Tensor& grad = grads[hook.output];
    if (!grad.defined()) continue;
    if (Tensor replaced = hook.call(grad); replaced.defined()) {
      VT_CHECK(replaced.sizes() == grad.sizes(), kRuntime, "hook: returned a gradient of shape ",
               replaced.sizes(), ", expected ", grad.sizes());
      grad = std::move(replaced);
    }
  }
}

}  // namespace vt
