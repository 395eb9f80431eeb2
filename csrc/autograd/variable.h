// What autograd knows about a tensor: the node that made it, or, for a leaf, the node that collects
// its gradient; and of which tensor it is a view.
#pragma once
#include "autograd/accumulate.h"
#include "autograd/grad_mode.h"
#include "autograd/node.h"

namespace vt {

struct Variable final : AutogradMeta, Pooled<Variable> {
  Ref<Node> grad_fn;                // null for a leaf
  uint32_t output = 0;              // which output of grad_fn this tensor is
  Ref<AccumulateGrad> accumulator;  // of a leaf that requires a gradient
  Tensor base;  // the tensor that this one views, if it was made while recording
  Node* base_grad_fn =
      nullptr;  // base's grad_fn when this view's grad_fn was made; compared, never followed
  std::shared_ptr<Tensor> retained;  // gradient of a non-leaf that asked for it (retain_grad)

  bool base_has_history() const override {
    return base.defined() && base.requires_grad() &&
           static_cast<Variable*>(base.impl()->autograd)->grad_fn;
  }

  using Pooled<Variable>::operator new;
  using Pooled<Variable>::operator delete;
};

inline Variable* variable(const Tensor& t) { return static_cast<Variable*>(t.impl()->autograd); }
Variable& ensure_variable(const Tensor& t);

// Makes `t` output `output` of `node`.
void set_history(const Tensor& t, Ref<Node> node, uint32_t output);
// After an in-place operation recorded as `node`, whose edge 0 leads to t's former history: makes
// it t's history, and where t is a view, its base's as well.
void rebase_history(const Tensor& t, Ref<Node> node);
// Throws where an in-place operation on `t` must not be recorded: on a leaf that requires a
// gradient or a view of one.
void check_inplace(const char* op, const Tensor& t);
// Remembers that `view` looks into `base`, so that later in-place operations on either stay
// differentiable.
void set_view_base(const Tensor& view, const Tensor& base);

// Are these `handles` on t all that reaches its memory, apart from what t itself is a view of? Not
// so for memory that somebody else owns, as a NumPy array.
bool is_held_by(const Tensor& t, uint32_t handles);

Ref<Node> grad_fn(const Tensor& t);   // null for a leaf
Edge gradient_edge(const Tensor& t);  // where t's gradient goes; null node if it requires none
bool is_leaf(const Tensor& t);
void set_requires_grad(const Tensor& t, bool requires_grad);
Tensor grad_of(const Tensor& t);                     // the accumulated gradient, or undefined
void set_grad(const Tensor& t, const Tensor& grad);  // undefined clears it
void retain_grad(const Tensor& t);
int register_hook(const Tensor& t, GradHook hook);  // the id for remove_hook
void remove_hook(const Tensor& t, int id);

inline bool should_record(const Tensor& a) { return grad_enabled() && a.requires_grad(); }

}  // namespace vt
