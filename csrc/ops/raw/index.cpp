// Picking and scattering by index tensors below autograd.
#include "device/capture.h"
#include "device/sync_debug.h"
#include "ops/raw/dense.h"

namespace vt::raw {
namespace {

Tensor index_of(const char* op, const Tensor& self, const Tensor& index) {
  check_same_device(op, self, index);
  VT_CHECK(index.dtype() == DType::kI64 || index.dtype() == DType::kI32, kRuntime, op,
           ": expected an index tensor of int64 or int32, got ", index);
  return dense(raw::to_dtype(index, DType::kI64));
}

Tensor at_least_1d(const Tensor& t) { return t.dim() == 0 ? raw::view(t, Dims{1}) : t; }

// Scatter and gather look at one index element for each element of their shorter side.
void check_along(const char* op, const Tensor& self, const Tensor& index, int d) {
  VT_CHECK(self.dim() == index.dim() || self.dim() == 0 || index.dim() == 0, kRuntime, op,
           ": index and input must have the same number of dimensions, got ", index, " and ", self);
  for (int i = 0; i < self.dim() && i < index.dim(); ++i)
    VT_CHECK(i == d || index.sizes()[i] <= self.sizes()[i], kRuntime, op, ": size of the index ",
             index, " at dim ", i, " is larger than that of the input ", self);
}

Tensor scattered(const char* op, const Tensor& self, int64_t dim, const Tensor& index_in,
                 const Tensor& src, bool add) {
  const int d = wrap_dim(op, dim, self.dim());
  const Tensor index = index_of(op, self, index_in);
  check_same_device(op, self, src);
  check_along(op, self, index, d);
  VT_CHECK(self.dtype() == src.dtype(), kRuntime, op, ": expected self and src of one dtype, got ",
           self, " and ", src);
  for (int i = 0; i < index.dim() && i < src.dim(); ++i)
    VT_CHECK(index.sizes()[i] <= src.sizes()[i], kRuntime, op, ": size of the index ", index,
             " at dim ", i, " is larger than that of src ", src);
  Tensor out = raw::clone(self);
  if (index.numel() == 0) return out;
  Tensor source = src;
  for (int i = 0; i < index.dim(); ++i)
    if (source.sizes()[i] != index.sizes()[i])
      source = raw::slice(source, i, 0, index.sizes()[i], 1);
  kernels(self.device())
      .scatter(at_least_1d(out), at_least_1d(dense(source)), at_least_1d(index), d, add);
  return out;
}

}  // namespace

Tensor index_select(const Tensor& self, int64_t dim, const Tensor& index_in) {
  const int d = wrap_dim("index_select", dim, self.dim());
  const Tensor index = index_of("index_select", self, index_in);
  VT_CHECK(index.dim() <= 1, kIndex, "index_select: index is supposed to be a vector, got ", index);
  const Tensor x = at_least_1d(dense(self)), i = at_least_1d(index);
  Dims sizes = x.sizes();
  sizes[d] = i.numel();
  Tensor out = empty(sizes, x.dtype(), x.device());
  if (out.numel() > 0) kernels(x.device()).index_select(out, x, i, d);
  return self.dim() == 0 ? raw::view(out, Dims{}) : out;
}

Tensor index_add(const Tensor& self, int64_t dim, const Tensor& index_in, const Tensor& source) {
  const int d = wrap_dim("index_add", dim, self.dim());
  const Tensor index = index_of("index_add", self, index_in);
  check_same_device("index_add", self, source);
  VT_CHECK(self.dtype() == source.dtype(), kRuntime,
           "index_add: expected self and source of one dtype, got ", self, " and ", source);
  Dims expected = self.sizes();
  if (!expected.empty()) expected[d] = index.numel();
  VT_CHECK(source.sizes() == expected, kRuntime, "index_add: expected source of shape ", expected,
           ", got ", source);
  Tensor out = raw::clone(self);
  if (source.numel() > 0)
    kernels(self.device())
        .index_add(at_least_1d(out), at_least_1d(dense(source)), at_least_1d(index), d);
  return out;
}

Tensor index_sum(const Tensor& source, int64_t dim, const Tensor& index_in, int64_t size) {
  const int d = wrap_dim("index_sum", dim, source.dim());
  const Tensor index = index_of("index_sum", source, index_in);
  VT_CHECK(source.dim() > 0 && source.sizes()[d] == index.numel() && size >= 0, kRuntime,
           "index_sum: expected a slice of source for each of the ", index.numel(),
           " indices along dim ", dim, ", got ", source, " for size ", size);
  Dims sizes = source.sizes();
  sizes[d] = size;
  Tensor out = empty(sizes, source.dtype(), source.device());
  if (out.numel() > 0) kernels(out.device()).index_sum(out, dense(source), at_least_1d(index), d);
  return out;
}

std::tuple<Tensor, Tensor, Tensor> shard_index(const Tensor& index_in, int64_t start,
                                               int64_t length, int64_t size,
                                               std::optional<int64_t> ignore_index) {
  VT_CHECK(0 <= start && 0 < length && start + length <= size, kValue, "shard_index: [", start,
           ", ", start + length, ") is no window on ", size, " indices");
  const Tensor index = index_of("shard_index", index_in, index_in);
  Tensor place = empty_like(index), inside = empty(index.sizes(), DType::kBool, index.device()),
         counted = empty_like(inside);
  const IndexWindow window{start, length, size, ignore_index.has_value(), ignore_index.value_or(0)};
  if (index.numel() > 0) kernels(index.device()).shard_index(place, inside, counted, index, window);
  return {place, inside, counted};
}

Tensor gather(const Tensor& self, int64_t dim, const Tensor& index_in) {
  const int d = wrap_dim("gather", dim, self.dim());
  const Tensor index = index_of("gather", self, index_in);
  check_along("gather", self, index, d);
  Tensor out = empty(index.sizes(), self.dtype(), self.device());
  if (out.numel() > 0)
    kernels(self.device())
        .gather(at_least_1d(out), at_least_1d(dense(self)), at_least_1d(index), d);
  return out;
}

Tensor scatter_add(const Tensor& self, int64_t dim, const Tensor& index, const Tensor& src) {
  return scattered("scatter_add", self, dim, index, src, true);
}
Tensor scatter(const Tensor& self, int64_t dim, const Tensor& index, const Tensor& src) {
  return scattered("scatter", self, dim, index, src, false);
}

Tensor nonzero(const Tensor& self) {
  check_not_capturing("nonzero", self.device(),
                      "the size of its result, as that of indexing with a mask, depends on values; "
                      "use where() or a product with the mask");
  if (!self.device().is_cpu()) note_wait("nonzero");
  const Tensor positions = empty(Dims{self.numel()}, DType::kI64, self.device());
  int64_t count = 0;
  if (self.numel() > 0) kernels(self.device()).nonzero(positions, dense(self), &count);
  Tensor out = empty(Dims{count, self.dim()}, DType::kI64, self.device());
  // Flat positions become one column a dimension.
  Tensor rest = raw::slice(positions, 0, 0, count, 1);
  for (int d = self.dim() - 1; d >= 0; --d) {
    const Scalar size(self.sizes()[d]);
    raw::copy_(raw::select(out, 1, d), raw::remainder(rest, size), false);
    rest = raw::floor_divide(rest, size);
  }
  return out;
}

}  // namespace vt::raw
