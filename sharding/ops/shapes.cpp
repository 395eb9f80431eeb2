// Views and joins made of other operators over fabric tensors.
#include "sharding/ops.h"

namespace vt::sharding {

// What is local may have been cut out of more, where a view would need a copy.
FabricTensor view(const FabricTensor& self, const Dims& size) { return reshape(self, size); }

FabricTensor view_as(const FabricTensor& self, const FabricTensor& other) {
  return view(self, other.sizes());
}

FabricTensor expand_as(const FabricTensor& self, const FabricTensor& other) {
  return expand(self, other.sizes());
}

FabricTensor flatten(const FabricTensor& self, int64_t start_dim, int64_t end_dim) {
  if (self.dim() == 0) return reshape(self, Dims{1});
  const int start = wrap_dim("flatten", start_dim, self.dim()),
            end = wrap_dim("flatten", end_dim, self.dim());
  VT_CHECK(start <= end, kRuntime, "flatten: start_dim ", start, " lies behind end_dim ", end);
  Dims sizes;
  for (int d = 0; d < self.dim(); ++d) {
    if (d > start && d <= end) sizes.back() *= self.sizes()[d];
    else sizes.push_back(self.sizes()[d]);
  }
  return reshape(self, sizes);
}

FabricTensor unflatten(const FabricTensor& self, int64_t dim, const Dims& sizes) {
  const int at = wrap_dim("unflatten", dim, self.dim());
  Dims all, inner = sizes;
  int64_t known = 1;
  for (int64_t size : inner) known *= size == -1 ? 1 : size;
  for (int64_t& size : inner)
    if (size == -1 && known > 0) size = self.sizes()[at] / known;
  VT_CHECK(inner.product() == self.sizes()[at], kRuntime, "unflatten: ", sizes,
           " do not multiply up to the ", self.sizes()[at], " of dimension ", at, " of ", self);
  for (int d = 0; d < self.dim(); ++d) {
    if (d != at) all.push_back(self.sizes()[d]);
    else
      for (int64_t size : inner) all.push_back(size);
  }
  return reshape(self, all);
}

FabricTensor movedim(const FabricTensor& self, int64_t source, int64_t destination) {
  const int from = wrap_dim("movedim", source, self.dim()),
            to = wrap_dim("movedim", destination, self.dim());
  Dims order;
  for (int d = 0; d < self.dim(); ++d)
    if (d != from) order.push_back(d);
  order.insert(to, from);
  return permute(self, order);
}

FabricTensor stack(const std::vector<FabricTensor>& tensors, int64_t dim) {
  std::vector<FabricTensor> raised;
  for (const FabricTensor& t : tensors) raised.push_back(unsqueeze(t, dim));
  return cat(raised, dim);
}

}  // namespace vt::sharding
