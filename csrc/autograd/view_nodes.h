// The two nodes that keep views differentiable after in-place changes.
#pragma once
#include "autograd/node.h"

namespace vt {

// Backward of "view is this window of base", from the geometry alone.
Ref<Node> make_view_node(const Tensor& base, const Tensor& view);
// Backward of "the window `view` of base was updated by `update`", whose edge 0 leads to the
// window's former value.
Ref<Node> make_slice_update(const Tensor& base, const Tensor& view, Ref<Node> update);

}  // namespace vt
