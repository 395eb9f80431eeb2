// Cutting a tensor into pieces that one backward node puts together again: split and unbind.
#include <algorithm>
#include <span>
#include <string>

#include "autograd/grad_mode.h"
#include "autograd/saved.h"
#include "ops/ops.h"

namespace vt {
namespace {

// The tensor that the pieces are cut from, if they still lie in one as they were cut, each `sizes`
// wide along `dim`: no copy then. Else an undefined tensor.
Tensor whole_of(std::span<const Tensor> pieces, const TensorMeta& input, int dim) {
  const Tensor& first = pieces[0];
  if (input.sizes.product() == 0) return Tensor();
  int64_t at = first.offset();
  for (const Tensor& piece : pieces) {
    if (!piece.defined() || piece.dtype() != first.dtype() ||
        piece.impl()->storage != first.impl()->storage || piece.offset() != at)
      return Tensor();
    for (int i = 0; i < piece.dim(); ++i)
      if (piece.strides()[i] != first.strides()[i] && piece.sizes()[i] != 1) return Tensor();
    at += piece.sizes()[dim] * first.strides()[dim];
  }
  return view_of(first, input.sizes, first.strides(), first.offset());
}

class PiecesBackward final : public Node {
 public:
  // `sizes` along `dim`; `unbound`: the dimension, of one element, is not there in the pieces.
  PiecesBackward(const Tensor& input, int dim, std::vector<int64_t> sizes, bool unbound)
      : Node(input.device(), static_cast<int>(sizes.size()), 1),
        input_(input),
        dim_(dim),
        sizes_(std::move(sizes)),
        unbound_(unbound) {
    set_edge(0, input);
  }
  const char* name() const override { return unbound_ ? "UnbindBackward" : "SplitBackward"; }
  void release_saved() override {}
  void apply(std::span<Tensor> grads, std::span<Tensor> out) override {
    const bool complete =
        std::all_of(grads.begin(), grads.end(), [](const Tensor& t) { return t.defined(); });
    if (complete && !grad_enabled()) {
      std::vector<Tensor> pieces;
      for (const Tensor& grad : grads) pieces.push_back(unbound_ ? as_slice(grad, grads) : grad);
      out[0] = whole_of(pieces, input_, dim_);
      if (out[0].defined()) return;
    }
    std::vector<Tensor> pieces;
    for (size_t i = 0; i < grads.size(); ++i)
      pieces.push_back(!grads[i].defined() ? zero_piece(static_cast<int>(i), grads)
                       : unbound_          ? unsqueeze(grads[i], dim_)
                                           : grads[i]);
    out[0] = grad_enabled() ? cat(pieces, dim_) : raw::cat(pieces, dim_);
  }

 private:
  // The cut dimension back in place. Its stride is the step to the next piece, if that is a stride.
  Tensor as_slice(const Tensor& grad, std::span<const Tensor> all) const {
    const int64_t step = all.size() > 1 ? all[1].offset() - all[0].offset() : 1;
    Dims sizes = grad.sizes(), strides = grad.strides();
    sizes.insert(dim_, 1);
    strides.insert(dim_, std::max<int64_t>(step, 0));
    return view_of(grad, sizes, strides, grad.offset());
  }
  Tensor zero_piece(int i, std::span<const Tensor> grads) const {
    DType dtype = input_.dtype;
    for (const Tensor& grad : grads)
      if (grad.defined()) dtype = grad.dtype();
    Dims sizes = input_.sizes;
    sizes[dim_] = sizes_[i];
    return zeros(sizes, dtype, input_.device);
  }

  TensorMeta input_;
  int dim_;
  std::vector<int64_t> sizes_;
  bool unbound_;
};

// "[2, 3]", and of a long list its start.
std::string listed(std::span<const int64_t> sizes) {
  constexpr size_t kShown = 16;
  std::string text = "[";
  for (size_t i = 0; i < std::min(sizes.size(), kShown); ++i)
    text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + (sizes.size() > kShown ? str(", ... ", sizes.size(), " in all]") : "]");
}

std::vector<Tensor> cut(const Tensor& self, int dim, std::vector<int64_t> sizes, bool unbound) {
  std::vector<Tensor> pieces;
  int64_t at = 0;
  for (const int64_t size : sizes) {
    pieces.push_back(unbound ? raw::select(self, dim, at)
                             : raw::slice(self, dim, at, at + size, 1));
    at += size;
  }
  if (!grad_enabled()) return pieces;
  for (const Tensor& piece : pieces) set_view_base(piece, self);
  if (!self.requires_grad() || pieces.empty()) return pieces;
  const auto node = Ref<Node>::adopt(new PiecesBackward(self, dim, std::move(sizes), unbound));
  for (size_t i = 0; i < pieces.size(); ++i) set_history(pieces[i], node, static_cast<uint32_t>(i));
  return pieces;
}

}  // namespace

std::vector<Tensor> unbind(const Tensor& self, int64_t dim) {
  VT_CHECK(self.dim() > 0, kRuntime, "unbind: dimension specified as ", dim,
           " but tensor has no dimensions");
  const int d = wrap_dim("unbind", dim, self.dim());
  return cut(self, d, std::vector<int64_t>(static_cast<size_t>(self.sizes()[d]), 1), true);
}

std::vector<Tensor> split_size(const Tensor& self, int64_t size, int64_t dim) {
  const int d = wrap_dim("split", dim, self.dim());
  VT_CHECK(self.dim() > 0 && size > 0, kRuntime, "split: expects split_size to be positive, got ",
           size, " for ", self);
  std::vector<int64_t> sizes;
  const int64_t n = self.sizes()[d];
  for (int64_t at = 0; at < n || sizes.empty(); at += size) sizes.push_back(std::min(size, n - at));
  return cut(self, d, std::move(sizes), false);
}

std::vector<Tensor> split_sizes(const Tensor& self, std::span<const int64_t> sizes, int64_t dim) {
  const int d = wrap_dim("split", dim, self.dim());
  const int64_t n = self.dim() > 0 ? self.sizes()[d] : 0;
  int64_t left = n;
  for (const int64_t size : sizes) {
    VT_CHECK(size >= 0, kRuntime, "split: split_sizes must not be negative, got ", listed(sizes));
    if (left >= 0) left -= size;  // below 0: too many, whatever comes
  }
  VT_CHECK(self.dim() > 0 && left == 0, kRuntime, "split: expects split_sizes to sum exactly to ",
           n, " (input tensor's size at dimension ", dim, "), but got ", listed(sizes));
  return cut(self, d, std::vector<int64_t>(sizes.begin(), sizes.end()), false);
}

}  // namespace vt
