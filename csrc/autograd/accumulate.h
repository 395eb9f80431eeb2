// The end of a backward path: collects the gradient of one leaf.
#pragma once
#include <atomic>
#include <functional>
#include <mutex>
#include <vector>

#include "autograd/node.h"

namespace vt {

class AccumulateGrad final : public Node {
 public:
  AccumulateGrad(const Dims& sizes, DType dtype, Device device);

  const char* name() const override { return "AccumulateGrad"; }
  void apply(std::span<Tensor> grads, std::span<Tensor> out) override;
  void release_saved() override {}
  Tensor lend_place(const void* borrower, bool* adds) override;
  void return_place(const void* borrower) override;

  Tensor grad() const;
  bool has_grad(const Tensor& grad) const;  // is it this one?
  void set_grad(const Tensor& grad);        // undefined clears it
  // As set_grad, but takes the tensor itself, whatever place is bound: puts back what was there.
  void put_grad(Tensor grad);
  // A fixed place for the gradient, such as a piece of a flat arena: the first gradient after
  // `clear` is written or copied there, later ones are added.
  void bind(const Tensor& place);
  Tensor bound() const { return place_; }
  // Runs after each accumulation, on the thread that accumulated.
  void set_post_hook(std::function<void()> hook) { post_hook_ = std::move(hook); }

  const Dims& sizes() const { return sizes_; }
  DType dtype() const { return dtype_; }

 private:
  void take_aside();
  void follow_last_writer();

  Dims sizes_;
  DType dtype_;
  mutable std::mutex mutex_;
  Tensor grad_;                     // undefined: none yet
  Tensor place_;                    // see bind
  const void* borrower_ = nullptr;  // the pass that writes into place_
  bool adds_ = false;               // it adds there to grad_, which lies there
  Tensor aside_;                    // what other passes bring meanwhile
  Stream writer_;                   // of a leaf on a GPU: the stream that last changed any of these
  std::function<void()> post_hook_;
};

}  // namespace vt
