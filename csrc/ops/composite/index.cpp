// Indexing made of other operators.
#include "device/capture.h"
#include "device/deferred.h"
#include "iter/elementwise.h"
#include "ops/ops.h"

namespace vt {

Tensor index_tensor(const Tensor& self, const std::vector<Tensor>& indices) {
  VT_CHECK(!indices.empty() && static_cast<int>(indices.size()) <= self.dim(), kIndex,
           "index: too many indices for ", self, ": got ", indices.size());
  // One flat index over the leading dimensions: ((i0 * s1) + i1) * s2 + ...
  Dims shape = indices[0].sizes();
  for (const Tensor& index : indices) {
    VT_CHECK(index.dtype() == DType::kI64 || index.dtype() == DType::kI32, kIndex,
             "index: tensors used as indices must be int64, int32 or bool, got ", index);
    shape = broadcast_sizes("index", shape, index.sizes());
  }
  // As in torch, indices whose result is empty may be any numbers, but not of an empty dimension.
  const int64_t picked = shape.product();
  int64_t picked_elements = picked;
  for (int d = static_cast<int>(indices.size()); d < self.dim(); ++d)
    picked_elements *= self.sizes()[d];
  int64_t joined = 1;
  Tensor flat;
  Dims rest = shape;
  for (int d = 0; d < self.dim(); ++d) {
    if (d >= static_cast<int>(indices.size())) {
      rest.push_back(self.sizes()[d]);
      continue;
    }
    const int64_t n = self.sizes()[d];
    VT_CHECK(n > 0 || picked == 0, kIndex, "index: an index is out of bounds for dimension ", d,
             " with size 0 of ", self);
    const Tensor index =
        raw::to_dtype(raw::to_device(indices[d], self.device(), false), DType::kI64);
    // Negative counts from the end. What is out of range must stay out of range after the
    // flattening.
    const Tensor wrapped =
        raw::where_tensors(raw::lt(index, Scalar(0)), raw::add(index, Scalar(n), Scalar(1)), index);
    if (self.device().is_cpu() && picked_elements > 0) {
      const Tensor bad = raw::logical_or(raw::lt(wrapped, Scalar(0)), raw::ge(wrapped, Scalar(n)));
      const Tensor any = raw::any(bad, {}, false);
      run_deferred();  // it is read here
      VT_CHECK(!*any.data<bool>(), kIndex, "index: an index is out of bounds for dimension ", d,
               " with size ", n, " of ", self);
    }
    flat = flat.defined() ? raw::add(raw::mul(flat, Scalar(n)), wrapped, Scalar(1)) : wrapped;
    joined *= n;
  }
  Dims folded{joined};
  for (int d = static_cast<int>(indices.size()); d < self.dim(); ++d)
    folded.push_back(self.sizes()[d]);
  const Tensor rows =
      index_select(reshape(self, folded), 0, reshape(raw::expand(flat, shape), Dims{-1}));
  return reshape(rows, rest);
}

Tensor masked_select(const Tensor& self, const Tensor& mask) {
  VT_CHECK(mask.dtype() == DType::kBool, kRuntime,
           "masked_select: expected BoolTensor for mask, got ", mask);
  const Dims sizes = broadcast_sizes("masked_select", self.sizes(), mask.sizes());
  const Tensor positions = raw::nonzero(reshape(expand(mask, sizes), Dims{-1}));
  return index_select(reshape(expand(self, sizes), Dims{-1}), 0, reshape(positions, Dims{-1}));
}

Tensor one_hot(const Tensor& self, int64_t num_classes) {
  VT_CHECK(self.dtype() == DType::kI64, kRuntime,
           "one_hot: is only applicable to index tensors of int64, got ", self);
  int64_t classes = num_classes;
  if (classes < 0) {
    VT_CHECK(self.numel() > 0, kRuntime,
             "one_hot: cannot infer the number of classes of an empty tensor");
    check_not_capturing("one_hot", self.device(),
                        "the number of classes depends on values; give num_classes");
    const Tensor top = raw::to_device(raw::amax(self, {}, false), Device{}, false);
    run_deferred();
    classes = *top.data<int64_t>() + 1;
  }
  const Tensor range = arange_end(Scalar(classes), DType::kI64, self.device());
  return raw::to_dtype(raw::eq(raw::unsqueeze(self, -1), range), DType::kI64);
}

}  // namespace vt
