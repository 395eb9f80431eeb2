// Views: new windows on the same memory.
#include "ops/raw/views.h"

#include "ops/raw/dense.h"

namespace vt {

Dims infer_sizes(const char* op, const Dims& wanted, int64_t numel) {
  Dims sizes = wanted;
  int unknown = -1;
  int64_t known = 1;
  for (int i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == -1) {
      VT_CHECK(unknown < 0, kRuntime, op, ": only one dimension can be inferred, got ", wanted);
      unknown = i;
    } else {
      VT_CHECK(sizes[i] >= 0, kRuntime, op, ": invalid shape dimension ", sizes[i], " in ", wanted);
      VT_CHECK(!__builtin_mul_overflow(known, sizes[i], &known), kRuntime, op, ": shape ", wanted,
               " is invalid for input of size ", numel);
    }
  }
  if (unknown >= 0) {
    VT_CHECK(known != 0 && numel % known == 0, kRuntime, op, ": shape ", wanted,
             " is invalid for input of size ", numel);
    sizes[unknown] = numel / known;
  } else {
    VT_CHECK(known == numel, kRuntime, op, ": shape ", wanted, " is invalid for input of size ",
             numel);
  }
  return sizes;
}

std::optional<Dims> view_strides(const Tensor& t, const Dims& sizes) {
  if (t.is_dense() || t.numel() == 0) return row_major_strides(sizes);
  Dims strides = Dims::filled(sizes.size(), 0);
  int to = sizes.size() - 1;
  const Dims& from_sizes = t.sizes();
  const Dims& from_strides = t.strides();
  // Walk runs of old dimensions that lie one after another in memory, and spend each on new
  // dimensions.
  int64_t run = 1, base = from_sizes.empty() ? 1 : from_strides.back();
  for (int d = from_sizes.size() - 1; d >= 0; --d) {
    run *= from_sizes[d];
    const bool ends = d == 0 || (from_sizes[d - 1] != 1 && from_strides[d - 1] != run * base);
    if (!ends) continue;
    int64_t spent = 1;
    while (to >= 0 && (spent < run || sizes[to] == 1)) {
      strides[to] = spent * base;
      spent *= sizes[to];
      --to;
    }
    if (spent != run) return std::nullopt;
    if (d > 0) {
      base = from_strides[d - 1];
      run = 1;
    }
  }
  if (to != -1) return std::nullopt;
  return strides;
}

namespace raw {

Tensor view(const Tensor& self, const Dims& size) {
  const Dims sizes = infer_sizes("view", size, self.numel());
  const std::optional<Dims> strides = view_strides(self, sizes);
  VT_CHECK(strides, kRuntime, "view: size ", sizes, " is not compatible with a tensor of size ",
           self.sizes(), " and stride ", self.strides(),
           " (at least one dimension spans two contiguous subspaces); use .reshape(...)");
  return view_of(self, sizes, *strides, self.offset());
}

Tensor transpose(const Tensor& self, int64_t dim0, int64_t dim1) {
  const int a = wrap_dim("transpose", dim0, self.dim()),
            b = wrap_dim("transpose", dim1, self.dim());
  Dims sizes = self.sizes(), strides = self.strides();
  if (self.dim() > 0) {
    std::swap(sizes[a], sizes[b]);
    std::swap(strides[a], strides[b]);
  }
  return view_of(self, sizes, strides, self.offset());
}

Tensor permute(const Tensor& self, const Dims& dims) {
  VT_CHECK(dims.size() == self.dim(), kRuntime, "permute: expected ", self.dim(),
           " dimensions for ", self, ", got ", dims);
  Dims sizes = self.sizes(), strides = self.strides();
  unsigned seen = 0;
  for (int i = 0; i < dims.size(); ++i) {
    const int d = wrap_dim("permute", dims[i], self.dim());
    VT_CHECK(!(seen >> d & 1), kRuntime, "permute: dimension ", d, " is repeated in ", dims);
    seen |= 1u << d;
    sizes[i] = self.sizes()[d];
    strides[i] = self.strides()[d];
  }
  return view_of(self, sizes, strides, self.offset());
}

Tensor expand(const Tensor& self, const Dims& size) {
  VT_CHECK(size.size() >= self.dim(), kRuntime, "expand: the requested shape ", size,
           " has fewer dimensions than ", self);
  Dims sizes = size, strides = Dims::filled(size.size(), 0);
  const int shift = size.size() - self.dim();
  for (int i = 0; i < sizes.size(); ++i) {
    const int64_t have = i < shift ? 1 : self.sizes()[i - shift];
    if (sizes[i] == -1) {
      VT_CHECK(i >= shift, kRuntime, "expand: -1 is not allowed in the new leading dimension ", i,
               " of ", size);
      sizes[i] = have;
    }
    VT_CHECK(sizes[i] >= 0 && (have == sizes[i] || have == 1), kRuntime, "expand: size ", sizes[i],
             " at dim ", i, " of ", size, " does not match the existing size ", have, " of ", self);
    strides[i] = have == 1 && sizes[i] != 1 ? 0 : i < shift ? 0 : self.strides()[i - shift];
  }
  return view_of(self, sizes, strides, self.offset());
}

Tensor squeeze_all(const Tensor& self) {
  Dims sizes, strides;
  for (int i = 0; i < self.dim(); ++i)
    if (self.sizes()[i] != 1) {
      sizes.push_back(self.sizes()[i]);
      strides.push_back(self.strides()[i]);
    }
  return view_of(self, sizes, strides, self.offset());
}

Tensor squeeze_dim(const Tensor& self, int64_t dim) {
  const int d = wrap_dim("squeeze", dim, self.dim());
  Dims sizes = self.sizes(), strides = self.strides();
  if (self.dim() > 0 && sizes[d] == 1) {
    sizes.erase(d);
    strides.erase(d);
  }
  return view_of(self, sizes, strides, self.offset());
}

Tensor unsqueeze(const Tensor& self, int64_t dim) {
  const int d = wrap_dim("unsqueeze", dim, self.dim() + 1);
  const int64_t step = d < self.dim() ? self.sizes()[d] * self.strides()[d] : 1;
  Dims sizes = self.sizes(), strides = self.strides();
  strides.insert(d, step);
  sizes.insert(d, 1);
  return view_of(self, sizes, strides, self.offset());
}

Tensor select(const Tensor& self, int64_t dim, int64_t index) {
  VT_CHECK(self.dim() > 0, kIndex, "select: cannot be applied to a 0-dim tensor; use .item()");
  const int d = wrap_dim("select", dim, self.dim());
  const int64_t n = self.sizes()[d];
  VT_CHECK(index >= -n && index < n, kIndex, "select: index ", index,
           " is out of range for dimension ", d, " with size ", n);
  Dims sizes = self.sizes(), strides = self.strides();
  const int64_t offset = self.offset() + (index < 0 ? index + n : index) * strides[d];
  sizes.erase(d);
  strides.erase(d);
  return view_of(self, sizes, strides, offset);
}

Tensor slice(const Tensor& self, int64_t dim, int64_t start, int64_t end, int64_t step) {
  VT_CHECK(self.dim() > 0, kIndex, "slice: cannot be applied to a 0-dim tensor");
  const int d = wrap_dim("slice", dim, self.dim());
  VT_CHECK(step > 0, kValue, "slice: step must be greater than zero, got ", step);
  const SliceRange range = clamp_slice(self.sizes()[d], start, end);
  Dims sizes = self.sizes(), strides = self.strides();
  sizes[d] = (range.end - range.start + step - 1) / step;
  const int64_t offset = self.offset() + (sizes[d] > 0 ? range.start * strides[d] : 0);
  strides[d] *= step;
  return view_of(self, sizes, strides, offset);
}

Tensor window(const Tensor& self, const Dims& size, const Dims& stride, int64_t offset,
              const Dims&) {
  VT_CHECK(size.size() == stride.size(), kRuntime, "as_strided: sizes ", size, " and strides ",
           stride, " differ in length");
  return view_of(self, size, stride, self.offset() + offset);
}

}  // namespace raw
}  // namespace vt
