// Which streams of GPUs a backward pass over several devices, or several streams of one, queues its
// work on, and what orders them.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "autograd/node.h"
#include "device/backend.h"

namespace vt {

// Note [Streams of a pass]
// Backward of an operation is queued where its forward was, the gradient of a leaf where the
// caller looks for it: on the stream that is current where backward was called. Gradients that
// pass from one stream of a device to another are ordered on the way, those that a node of the CPU
// fetches by way of the caller's stream; copies between devices order themselves with the streams
// that are current on both. Passes of different streams that
// meet at a leaf are ordered there (AccumulateGrad::follow_last_writer).
class PassStreams {
 public:
  // `gpus`: a bit for each that the pass uses. The caller's current streams of them, which come
  // back at the end.
  explicit PassStreams(uint64_t gpus);
  ~PassStreams();
  PassStreams(const PassStreams&) = delete;
  PassStreams& operator=(const PassStreams&) = delete;

  bool captured() const;  // does one of the caller's streams take part in a capture?
  // The caller's gradient of a root.
  void start(const Tensor& grad, const Node& root) const;
  // Makes the streams current that `node` works on.
  void enter(Node& node) const;
  // The gradient that `node` has made will be used on the stream of `next`, which becomes current.
  void hand_over(const Tensor& grad, const Node& node, const Node& next) const;
  // What the caller queues later follows the work of `node`, and finds its gradient.
  void join(const Node& node);
  void bring_home(const Tensor& grad, const Node& node) const;

 private:
  Stream of(const Node& node) const;
  Stream home(const Node& node) const { return home_[node.device().index]; }

  std::array<Stream, kMaxDevices> home_{};
  std::vector<Stream> used_, joined_;
};

}  // namespace vt
