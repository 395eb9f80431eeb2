// Shapes made of other shapes: operators over views and copies.
#include "ops/raw/views.h"
#include "ops/ops.h"
#include "ops/raw/dense.h"

namespace vt {

Tensor reshape(const Tensor& self, const Dims& shape) {
  const Dims sizes = infer_sizes("reshape", shape, self.numel());
  if (sizes == self.sizes()) return self;
  return view_strides(self, sizes) ? view(self, sizes) : view(clone(self), sizes);
}

Tensor view_as(const Tensor& self, const Tensor& other) { return view(self, other.sizes()); }

Tensor flatten(const Tensor& self, int64_t start_dim, int64_t end_dim) {
  if (self.dim() == 0) return reshape(self, Dims{1});
  const int from = wrap_dim("flatten", start_dim, self.dim()),
            to = wrap_dim("flatten", end_dim, self.dim());
  VT_CHECK(from <= to, kRuntime, "flatten: start_dim cannot come after end_dim, got ", start_dim,
           " and ", end_dim);
  Dims sizes;
  int64_t joined = 1;
  for (int i = 0; i < self.dim(); ++i) {
    if (i < from || i > to) sizes.push_back(self.sizes()[i]);
    else joined *= self.sizes()[i];
    if (i == to) sizes.push_back(joined);
  }
  return reshape(self, sizes);
}

Tensor unflatten(const Tensor& self, int64_t dim, const Dims& sizes) {
  const int d = wrap_dim("unflatten", dim, self.dim());
  const Dims inner = infer_sizes("unflatten", sizes, self.sizes()[d]);
  Dims result;
  for (int i = 0; i < self.dim(); ++i) {
    if (i != d) result.push_back(self.sizes()[i]);
    else
      for (int64_t s : inner) result.push_back(s);
  }
  return view(self, result);
}

Tensor t(const Tensor& self) {
  VT_CHECK(self.dim() <= 2, kRuntime, "t: expects a tensor with <= 2 dimensions, got ", self);
  return self.dim() < 2 ? self : transpose(self, 0, 1);
}

Tensor movedim(const Tensor& self, int64_t source, int64_t destination) {
  const int from = wrap_dim("movedim", source, self.dim()),
            to = wrap_dim("movedim", destination, self.dim());
  Dims order;
  for (int i = 0; i < self.dim(); ++i)
    if (i != from) order.push_back(i);
  order.insert(to, from);
  return permute(self, order);
}

Tensor expand_as(const Tensor& self, const Tensor& other) { return expand(self, other.sizes()); }
Tensor broadcast_to(const Tensor& self, const Dims& size) { return expand(self, size); }

Tensor narrow(const Tensor& self, int64_t dim, int64_t start, int64_t length) {
  VT_CHECK(self.dim() > 0, kRuntime, "narrow: cannot be applied to a 0-dim tensor");
  const int d = wrap_dim("narrow", dim, self.dim());
  const int64_t n = self.sizes()[d], from = start < 0 ? start + n : start;
  VT_CHECK(length >= 0 && from >= 0 && from + length <= n, kRuntime, "narrow: start (", start,
           ") + length (", length, ") exceeds dimension size (", n, ")");
  return slice(self, d, from, from + length, 1);
}

std::vector<Tensor> chunk(const Tensor& self, int64_t chunks, int64_t dim) {
  VT_CHECK(chunks > 0, kRuntime, "chunk: expects `chunks` to be greater than 0, got: ", chunks);
  const int64_t n = self.size(dim);
  if (n == 0) return split_sizes(self, std::vector<int64_t>(static_cast<size_t>(chunks), 0), dim);
  return split_size(self, std::max<int64_t>((n + chunks - 1) / chunks, 1), dim);
}

Tensor stack(const std::vector<Tensor>& tensors, int64_t dim) {
  VT_CHECK(!tensors.empty(), kRuntime, "stack: expects a non-empty list of tensors");
  const int d = wrap_dim("stack", dim, tensors[0].dim() + 1);
  std::vector<Tensor> pieces;
  for (const Tensor& t : tensors) {
    VT_CHECK(t.sizes() == tensors[0].sizes(), kRuntime,
             "stack: expects each tensor to be equal size, but got ", tensors[0].sizes(),
             " at entry 0 and ", t.sizes(), " at entry ", pieces.size());
    pieces.push_back(unsqueeze(t, d));
  }
  return cat(pieces, d);
}

Tensor contiguous(const Tensor& self) { return self.is_dense() ? self : clone(self); }

Tensor repeat(const Tensor& self, const Dims& repeats) {
  VT_CHECK(repeats.size() >= self.dim(), kRuntime, "repeat: number of dimensions of repeat dims ",
           repeats, " can not be smaller than number of dimensions of tensor ", self);
  // [r0, s0, r1, s1, ...] by broadcasting, then joined pairwise.
  const int shift = repeats.size() - self.dim();
  Tensor result = self;
  for (int i = 0; i < shift; ++i) result = unsqueeze(result, 0);
  for (int d = 0; d < repeats.size(); ++d) {
    if (repeats[d] == 1) continue;
    Dims wide = result.sizes(), joined = result.sizes();
    wide.insert(d, repeats[d]);
    joined[d] *= repeats[d];
    result = reshape(expand(unsqueeze(result, d), wide), joined);
  }
  return result.same(self) ? clone(self) : result;
}

Tensor flip(const Tensor& self, const Dims& dims) {
  Tensor result = self;
  for (int64_t dim : dims) {
    const int d = wrap_dim("flip", dim, self.dim());
    if (self.dim() == 0) break;
    const int64_t n = self.sizes()[d];
    const Tensor backwards =
        arange_range(Scalar(n - 1), Scalar(-1), Scalar(-1), DType::kI64, self.device());
    result = index_select(result, d, backwards);
  }
  return result.same(self) ? clone(self) : result;
}

Tensor roll(const Tensor& self, int64_t shifts, int64_t dim) {
  const int64_t n = self.size(dim);
  if (n == 0) return clone(self);
  const int64_t by = ((shifts % n) + n) % n;
  return by == 0 ? clone(self)
                 : cat({narrow(self, dim, n - by, by), narrow(self, dim, 0, n - by)}, dim);
}

Tensor as_strided(const Tensor& self, const Dims& size, const Dims& stride,
                  std::optional<int64_t> storage_offset) {
  const int64_t offset = storage_offset.value_or(self.offset()) - self.offset();
  return window(self, size, stride, offset, self.strides());
}

Tensor diagonal(const Tensor& self, int64_t offset, int64_t dim1, int64_t dim2) {
  const int a = wrap_dim("diagonal", dim1, self.dim()), b = wrap_dim("diagonal", dim2, self.dim());
  VT_CHECK(a != b, kRuntime, "diagonal: dimensions cannot be identical, got ", dim1, " and ", dim2);
  const int64_t rows = self.sizes()[a], columns = self.sizes()[b];
  const int64_t row = offset < 0 ? -offset : 0, column = offset > 0 ? offset : 0;
  const int64_t length = std::max<int64_t>(std::min(rows - row, columns - column), 0);
  Dims sizes, strides;
  for (int i = 0; i < self.dim(); ++i) {
    if (i == a || i == b) continue;
    sizes.push_back(self.sizes()[i]);
    strides.push_back(self.strides()[i]);
  }
  sizes.push_back(length);
  strides.push_back(self.strides()[a] + self.strides()[b]);
  const int64_t start = length > 0 ? row * self.strides()[a] + column * self.strides()[b] : 0;
  return window(self, sizes, strides, start, self.strides());
}

Tensor zero_(const Tensor& self) { return fill_(self, Scalar(0)); }

}  // namespace vt
