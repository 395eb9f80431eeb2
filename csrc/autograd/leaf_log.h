// What a captured step does to the gradients of leaves: which gradient a leaf must have when a
// replay starts, and which one Python finds when it has been queued.
#pragma once
#include <vector>

#include "autograd/accumulate.h"
#include "device/capture.h"

namespace vt {

// From its making until stop() it notes every leaf whose gradient work of `capture` sets or adds
// to, on whatever thread.
class LeafLog {
 public:
  explicit LeafLog(const Capture& capture);
  ~LeafLog();
  LeafLog(const LeafLog&) = delete;
  LeafLog& operator=(const LeafLog&) = delete;

  void stop();
  // Gives every leaf the gradient from before the capture, and stops.
  void undo();
  // Would the captured work start from the gradients that the leaves have now? A leaf whose
  // gradient the work replaces first may have any.
  bool entry_is_now() const;
  // Gives every leaf the gradient that the work leaves.
  void restore_exit() const;
  size_t size() const { return entries_.size(); }

  // Called by a leaf before its gradient changes from `before`. `reads`: it is added to, or must be
  // absent.
  static void note(AccumulateGrad* leaf, const Tensor& before, bool reads);

 private:
  struct Entry {
    Ref<AccumulateGrad> leaf;
    Tensor before, after;
    bool reads;
  };

  const Capture* capture_;
  std::vector<Entry> entries_;
};

}  // namespace vt
