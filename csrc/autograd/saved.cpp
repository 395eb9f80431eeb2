// Saving and checking.
#include "autograd/saved.h"

namespace vt {

void SavedTensor::save_input(const Tensor& t) {
  tensor_ = t;
  if (t.defined()) version_ = t.version();
}

void SavedTensor::save_output(const Tensor& t) {
  is_output_ = true;
  if (!t.defined()) return;
  tensor_ = alias(t);
  version_ = t.version();
}

Tensor SavedTensor::unpack(Node* node, int output) const {
  if (VT_UNLIKELY(released_)) fail_graph_freed(node->name());
  if (!tensor_.defined()) return Tensor();
  VT_CHECK(tensor_.version() == version_, kRuntime,
           "one of the variables needed for gradient computation has been modified by an inplace "
           "operation: ",
           tensor_, ", ", is_output_ ? "the output" : "an input", " of ", node->name(),
           ", is at version ", tensor_.version(), "; expected version ", version_,
           " instead; use an out-of-place operation or clone it first");
  if (!is_output_ || !grad_enabled()) return tensor_;
  Tensor result = alias(tensor_);
  set_history(result, Ref<Node>::share(node), static_cast<uint32_t>(output));
  return result;
}

void fail_graph_freed(const char* node) {
  fail(ErrorKind::kRuntime, node,
       ": trying to backward through the graph a second time, but the saved tensors have been "
       "freed; "
       "specify retain_graph=True the first time");
}

}  // namespace vt
