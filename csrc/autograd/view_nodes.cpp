// Windows in backward: a gradient of the base has a window too, at the same place.
#include "autograd/view_nodes.h"

#include "autograd/formulas.h"
#include "ops/ops.h"

namespace vt {
namespace {

// A gradient of the base with the base's own strides, so that the view is the same window in it.
// One run of memory from the base's first element to its last.
struct Window {
  Dims base_sizes, base_strides, sizes, strides;
  int64_t extent = 1, offset;

  Window(const Tensor& base, const Tensor& view)
      : base_sizes(base.sizes()),
        base_strides(base.strides()),
        sizes(view.sizes()),
        strides(view.strides()),
        offset(view.offset() - base.offset()) {
    for (int i = 0; i < base.dim(); ++i) extent += (base_sizes[i] - 1) * base_strides[i];
    if (base.numel() == 0) extent = 0;
  }
  Tensor memory(DType dtype, Device device) const { return zeros(Dims{extent}, dtype, device); }
  Tensor base_of(const Tensor& memory) const {
    return as_strided(memory, base_sizes, base_strides, 0);
  }
  Tensor view_of(const Tensor& memory) const {
    return as_strided(memory, sizes, strides, extent == 0 ? 0 : offset);
  }
};

// Recorded only if this pass is (create_graph).
void write(const Tensor& place, const Tensor& values) {
  if (grad_enabled()) copy_(place, values, false);
  else raw::copy_(place, values, false);
}

class ViewBackward final : public Node {
 public:
  ViewBackward(const Tensor& base, const Tensor& view)
      : Node(base.device(), 1, 1), meta_(base), window_(base, view) {
    set_edge(0, base);
  }
  const char* name() const override { return "AsStridedBackward"; }
  void release_saved() override {}
  void apply(std::span<Tensor> grads, std::span<Tensor> out) override {
    out[0] = window_backward(grads[0], meta_, window_.sizes, window_.strides, window_.offset,
                             window_.base_strides);
  }

 private:
  TensorMeta meta_;
  Window window_;
};

class SliceUpdate final : public Node {
 public:
  SliceUpdate(const Tensor& base, const Tensor& view, Ref<Node> update)
      : Node(base.device(), 1, update->edge_count()),
        window_(base, view),
        update_(std::move(update)) {
    set_edge(0, base);
    for (int i = 1; i < edge_count(); ++i) edge(i) = update_->edge(i);
  }
  const char* name() const override { return "SliceUpdateBackward"; }
  void release_saved() override { update_->release_saved(); }
  void apply(std::span<Tensor> grads, std::span<Tensor> out) override {
    const Tensor memory = window_.memory(grads[0].dtype(), grads[0].device());
    write(window_.base_of(memory), grads[0]);
    const Tensor window = window_.view_of(memory);
    std::vector<Tensor> inner_grads{clone(window)}, inner_out(edge_count());
    update_->apply(inner_grads, inner_out);
    for (int i = 1; i < edge_count(); ++i) out[i] = std::move(inner_out[i]);
    if (!wants(0)) return;
    write(window, inner_out[0].defined() ? inner_out[0] : zeros_like(window, {}, {}));
    out[0] = window_.base_of(memory);
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
