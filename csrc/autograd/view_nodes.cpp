// Windows in backward: a gradient of the base has a window too, at the same place.
#include "autograd/view_nodes.h"

#include "autograd/saved.h"
#include "ops/ops.h"

namespace vt {
namespace {

// The place of a view in a dense tensor of its base's shape.
struct Window {
  Dims sizes, strides;
  int64_t offset;

  Window(const Tensor& base, const Tensor& view)
      : sizes(view.sizes()), strides(view.strides()), offset(view.offset() - base.offset()) {
    VT_CHECK(base.is_dense(), kRuntime,
             "autograd: an in-place operation on a view needs a row-major base tensor, got strides ", base.strides(),
             "; call contiguous() on the base first");
  }
  Tensor of(const Tensor& dense) const { return as_strided(dense, sizes, strides, offset); }
};

class ViewBackward final : public Node {
 public:
  ViewBackward(const Tensor& base, const Tensor& view) : Node(base.device(), 1, 1), meta_(base), window_(base, view) {
    set_edge(0, base);
  }
  const char* name() const override { return "AsStridedBackward"; }
  void release_saved() override {}
  void apply(std::span<Tensor> grads, std::span<Tensor> out) override {
    Tensor whole = zeros(meta_.sizes, meta_.dtype, meta_.device);
    out[0] = whole;
    if (grad_enabled()) {
      Tensor window = window_.of(whole);
      copy_(window, grads[0], false);
    } else {
      raw::copy_(window_.of(whole), grads[0], false);
    }
  }

 private:
  TensorMeta meta_;
  Window window_;
};

class SliceUpdate final : public Node {
 public:
  SliceUpdate(const Tensor& base, const Tensor& view, Ref<Node> update)
      : Node(base.device(), 1, update->edge_count()), window_(base, view), update_(std::move(update)) {
    set_edge(0, base);
    for (int i = 1; i < edge_count(); ++i) edge(i) = update_->edge(i);
  }
  const char* name() const override { return "SliceUpdateBackward"; }
  void release_saved() override { update_->release_saved(); }
  void apply(std::span<Tensor> grads, std::span<Tensor> out) override {
    Tensor whole = clone(grads[0]);
    if (!whole.is_dense()) whole = contiguous(whole);
    std::vector<Tensor> inner_grads{clone(window_.of(whole))}, inner_out(edge_count());
    update_->apply(inner_grads, inner_out);
    for (int i = 1; i < edge_count(); ++i) out[i] = std::move(inner_out[i]);
    if (!wants(0)) return;
    Tensor window = window_.of(whole);
    if (inner_out[0].defined()) copy_(window, inner_out[0], false);
    else zero_(window);
    out[0] = whole;
  }

 private:
  Window window_;
  Ref<Node> update_;
};

}  // namespace

Ref<Node> make_view_node(const Tensor& base, const Tensor& view) {
  return Ref<Node>::adopt(new ViewBackward(base, view));
}

Ref<Node> make_slice_update(const Tensor& base, const Tensor& view, Ref<Node> update) {
  return Ref<Node>::adopt(new SliceUpdate(base, view, std::move(update)));
}

}  // namespace vt
