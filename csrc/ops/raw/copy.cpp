// Copies: between layouts, types and devices.
#include "ops/raw/dense.h"

namespace vt::raw {
namespace {

Tensor broadcast_view(const Tensor& t, const Dims& sizes) {
  return t.sizes() == sizes ? t : raw::expand(t, sizes);
}

}  // namespace

Tensor copy_(const Tensor& self, const Tensor& src, bool non_blocking) {
  if (self.same(src) || self.numel() == 0) {
    VT_CHECK(src.numel() != 0 || self.numel() == 0, kRuntime, "copy_: cannot copy ", src, " into ",
             self);
    return self;
  }
  check_writable("copy_", self);
  const Tensor source = broadcast_view(src, self.sizes());
  if (source.device() == self.device()) {
    if (overlaps_partially(self, source)) kernels(self.device()).copy(self, raw::clone(source));
    else kernels(self.device()).copy(self, source);
  } else {
    // Convert and pack where the data is, move bytes once, unpack where they go.
    const Tensor packed = raw::to_dtype(dense(src), self.dtype());
    if (self.is_dense() && packed.sizes() == self.sizes()) {
      copy_bytes(self.data(), self.device(), packed.data(), packed.device(), self.bytes(),
                 non_blocking);
    } else {
      const Tensor arrived = empty(packed.sizes(), packed.dtype(), self.device());
      copy_bytes(arrived.data(), self.device(), packed.data(), packed.device(), packed.bytes(),
                 non_blocking);
      kernels(self.device()).copy(self, broadcast_view(arrived, self.sizes()));
    }
  }
  self.bump_version();
  return self;
}

Tensor clone(const Tensor& self) {
  Tensor out = empty_like(self);
  if (self.numel() > 0) kernels(self.device()).copy(out, self);
  return out;
}

Tensor to_dtype(const Tensor& self, DType dtype) {
  if (self.dtype() == dtype) return self;
  Tensor out = empty(self.sizes(), dtype, self.device());
  if (self.numel() > 0) kernels(self.device()).copy(out, self);
  return out;
}

Tensor to_device(const Tensor& self, Device device, bool non_blocking) {
  if (self.device() == device) return self;
  check_device(device);
  Tensor out = empty(self.sizes(), self.dtype(), device);
  const Tensor source = dense(self);
  copy_bytes(out.data(), device, source.data(), self.device(), source.bytes(), non_blocking);
  return out;
}

Tensor fill_(const Tensor& self, Scalar value) {
  if (self.numel() > 0) kernels(self.device()).fill(self, value);
  self.bump_version();
  return self;
}

Tensor detach(const Tensor& self) { return alias(self); }

Tensor cat(const std::vector<Tensor>& tensors, int64_t dim) {
  VT_CHECK(!tensors.empty(), kValue, "cat: expected a non-empty list of tensors");
  const Tensor& first = tensors[0];
  VT_CHECK(first.dim() > 0, kRuntime, "cat: zero-dimensional tensors cannot be concatenated");
  const int d = wrap_dim("cat", dim, first.dim());
  Dims sizes = first.sizes();
  DType dtype = first.dtype();
  for (size_t i = 1; i < tensors.size(); ++i) {
    const Tensor& t = tensors[i];
    check_same_device("cat", first, t);
    VT_CHECK(t.dim() == first.dim(), kRuntime,
             "cat: tensors must have the same number of dimensions: got ", first.dim(), " and ",
             t.dim());
    for (int k = 0; k < sizes.size(); ++k)
      VT_CHECK(k == d || t.sizes()[k] == first.sizes()[k], kRuntime,
               "cat: sizes of tensors must match except in dimension ", d, "; tensor 0 is ", first,
               " and tensor ", i, " is ", t);
    sizes[d] += t.sizes()[d];
    dtype = promote(dtype, t.dtype());
  }
  Tensor out = empty(sizes, dtype, first.device());
  int64_t at = 0;
  for (const Tensor& t : tensors) {
    if (t.numel() > 0)
      kernels(out.device())
          .copy(view_of(out, t.sizes(), out.strides(), out.offset() + at * out.strides()[d]), t);
    at += t.sizes()[d];
  }
  return out;
}

}  // namespace vt::raw
