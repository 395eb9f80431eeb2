// Choosing, ordering and giving back the streams of a pass.
#include "autograd/pass_streams.h"

#include <algorithm>

#include "autograd/between_streams.h"
#include "device/capture.h"

namespace vt {
namespace {

void make_current(Stream stream) {
  Backend& device = backend(stream.device);
  if (!(device.current_stream(stream.device.index) == stream)) device.set_current_stream(stream);
}

}  // namespace

PassStreams::PassStreams(uint64_t gpus) {
  for (int i = 0; i < kMaxDevices; ++i)
    if (gpus >> i & 1) used_.push_back(home_[i] = cuda_backend().current_stream(i));
}

PassStreams::~PassStreams() {
  for (Stream stream : used_) make_current(stream);
}

Stream PassStreams::of(const Node& node) const {
  return node.edge_count() == 0 ? home(node) : node.stream();
}

bool PassStreams::captured() const {
  return std::any_of(used_.begin(), used_.end(),
                     [](Stream stream) { return any_capture() && capture_of(stream); });
}

void PassStreams::start(const Tensor& grad, const Node& root) const {
  if (grad.defined() && root.device().is_cuda()) pass_on(grad, home(root), of(root));
}

void PassStreams::enter(Node& node) const {
  if (!node.device().is_cuda())
    for (Stream stream : used_) make_current(stream);  // of the gradients that it fetches
  for (int e = 0; e < node.edge_count(); ++e) {
    const Node* next = node.edge(e).node.get();
    if (next && next->device().is_cuda() && next->device() != node.device())
      make_current(of(*next));
  }
  if (node.device().is_cuda()) make_current(of(node));
}

void PassStreams::hand_over(const Tensor& grad, const Node& node, const Node& next) const {
  if (!grad.defined()) return;
  if (!next.device().is_cuda()) {
    if (!grad.device().is_cuda()) return;
    const Stream to = home_[grad.device().index];
    if (node.device() == grad.device()) pass_on(grad, of(node), to);
    make_current(to);
    return;
  }
  const Stream to = of(next);
  if (node.device() == next.device()) pass_on(grad, of(node), to);
  make_current(to);
}

void PassStreams::join(const Node& node) {
  if (!node.device().is_cuda()) return;
  const Stream stream = of(node);
  if (std::find(joined_.begin(), joined_.end(), stream) != joined_.end()) return;
  joined_.push_back(stream);
  order_streams(stream, home(node));
}

void PassStreams::bring_home(const Tensor& grad, const Node& node) const {
  if (grad.defined() && node.device().is_cuda()) pass_on(grad, of(node), home(node));
}

}  // namespace vt
