// Histories of tensors, including those of views and of in-place operations.
#include "autograd/variable.h"

#include "autograd/view_nodes.h"

namespace vt {

Variable& ensure_variable(const Tensor& t) {
  if (!t.impl()->autograd) t.impl()->autograd = new Variable;
  return *variable(t);
}

void set_history(const Tensor& t, Ref<Node> node, uint32_t output) {
  Variable& v = ensure_variable(t);
  v.grad_fn = std::move(node);
  v.output = output;
  t.impl()->requires_grad = true;
}

void set_view_base(const Tensor& view, const Tensor& base) {
  Variable& v = ensure_variable(view);
  const Variable* of_base = variable(base);
  v.base = of_base && of_base->base.defined() ? of_base->base : base;
  v.base_grad_fn = grad_fn(v.base).get();
}

bool is_held_by(const Tensor& t, uint32_t handles) {
  const Variable* v = variable(t);
  const bool viewed = v && v->base.defined();
  return !t.storage().wrapped() && t.impl()->use_count() == handles &&
         t.storage().use_count() == (viewed ? 2 : 1) &&
         (!viewed || v->base.impl()->use_count() == 1);
}

void check_inplace(const char* op, const Tensor& t) {
  const Variable* v = variable(t);
  if (!v) return;
  VT_CHECK(!(v->accumulator && !v->grad_fn), kRuntime, op,
           ": a leaf Variable that requires grad is being used in an in-place operation: ", t,
           "; wrap the update in torch.no_grad()");
  VT_CHECK(
      !(v->base.defined() && v->base.requires_grad() && is_leaf(v->base)), kRuntime, op,
      ": a view of a leaf Variable that requires grad is being used in an in-place operation: ", t,
      "; wrap the update in torch.no_grad()");
}

void rebase_history(const Tensor& t, Ref<Node> node) {
  Variable& v = ensure_variable(t);
  if (!v.base.defined()) {
    set_history(t, std::move(node), 0);
    return;
  }
  // The change shows in the base: its history gets a node that routes the gradient of this window
  // through `node`.
  set_history(v.base, make_slice_update(v.base, t, std::move(node)), 0);
  grad_fn(t);  // renews the view's own history from its base
}

Ref<Node> grad_fn(const Tensor& t) {
  Variable* v = variable(t);
  if (!v) return nullptr;
  if (v->base.defined() && v->base.requires_grad()) {
    const Ref<Node> of_base = grad_fn(v->base);
    if (of_base.get() != v->base_grad_fn) {
      v->base_grad_fn = of_base.get();
      set_history(t, make_view_node(v->base, t), 0);
    }
  }
  return v->grad_fn;
}

Edge gradient_edge(const Tensor& t) {
  if (!t.requires_grad()) return {};
  Variable* v = variable(t);
  if (VT_UNLIKELY(v->base.defined())) grad_fn(t);
  if (v->grad_fn) return {v->grad_fn, v->output};
  return {v->accumulator, 0};
}

bool is_leaf(const Tensor& t) { return !grad_fn(t); }

void set_requires_grad(const Tensor& t, bool requires_grad) {
  VT_CHECK(is_leaf(t) || requires_grad, kRuntime,
           "requires_grad: you can only change requires_grad flags of leaf variables; use detach() "
           "to get a tensor "
           "without history");
  VT_CHECK(!requires_grad || is_float(t.dtype()), kRuntime,
           "requires_grad: only tensors of floating point dtype can require gradients, got ", t);
  if (!is_leaf(t)) return;
  if (requires_grad && !ensure_variable(t).accumulator)
    ensure_variable(t).accumulator =
        Ref<AccumulateGrad>::adopt(new AccumulateGrad(t.sizes(), t.dtype(), t.device()));
  t.impl()->requires_grad = requires_grad;
}

Tensor grad_of(const Tensor& t) {
  const Variable* v = variable(t);
  if (!v) return Tensor();
  if (v->accumulator && !v->grad_fn) return v->accumulator->grad();
  return v->retained ? *v->retained : Tensor();
}

void set_grad(const Tensor& t, const Tensor& grad) {
  if (grad.defined()) {
    VT_CHECK(grad.sizes() == t.sizes() && grad.dtype() == t.dtype() && grad.device() == t.device(),
             kRuntime, "grad: assigned a gradient ", grad, " to a tensor ", t);
    VT_CHECK(!grad.same(t), kRuntime, "grad: a tensor can't be its own gradient");
  }
  Variable* v = variable(t);
  if (!grad.defined() && (!v || !v->accumulator)) return;
  Variable& owner = ensure_variable(t);
  if (!owner.accumulator)
    owner.accumulator =
        Ref<AccumulateGrad>::adopt(new AccumulateGrad(t.sizes(), t.dtype(), t.device()));
  owner.accumulator->set_grad(grad);
}

void retain_grad(const Tensor& t) {
  VT_CHECK(t.requires_grad(), kRuntime,
           "retain_grad: can't retain_grad on a tensor that has requires_grad=False");
  if (is_leaf(t) || variable(t)->retained) return;
  auto place = std::make_shared<Tensor>();
  variable(t)->retained = place;
  register_hook(t, [place](const Tensor& grad) {
    *place = grad;
    return Tensor();
  });
}

int register_hook(const Tensor& t, GradHook hook) {
  VT_CHECK(t.requires_grad(), kRuntime,
           "register_hook: cannot register a hook on a tensor that doesn't require gradient");
  const Edge edge = gradient_edge(t);
  return edge.node->add_hook(static_cast<int>(edge.slot), std::move(hook));
}

void remove_hook(const Tensor& t, int id) {
  if (t.requires_grad()) gradient_edge(t).node->remove_hook(id);
}

}  // namespace vt
