// Packing for collectives, which move dense parts of one size: a dimension that is cut goes in
// front, and uneven shards are padded.
#include "sharding/exchange.h"

#include "autograd/grad_mode.h"
#include "ops/ops.h"

namespace vt::sharding {
namespace {

using collectives::Kind;

int64_t part_size(const Dims& sizes, int dim, int ranks) {
  return shard_range(sizes[dim], ranks, 0).length;
}

// [.., size, ..] with zeros up to `padded` along dim.
Tensor pad(const Tensor& t, int dim, int64_t padded) {
  const int64_t missing = padded - t.sizes()[dim];
  if (missing == 0) return t;
  Dims sizes = t.sizes();
  sizes[dim] = missing;
  return cat({t, zeros(sizes, t.dtype(), t.device())}, dim);
}

// [.., size, ..] as dense parts [ranks, .., part, ..].
Tensor split_parts(const Tensor& t, int dim, int ranks) {
  const int64_t part = part_size(t.sizes(), dim, ranks);
  return contiguous(
      movedim(unflatten(pad(t, dim, part * ranks), dim, Dims{ranks, part}), dim, 0));
}

// The other way: dense parts [ranks, .., part, ..] as [.., size, ..].
Tensor join_parts(const Tensor& parts, int dim, int64_t size) {
  const Tensor joined = flatten(movedim(parts, 0, dim), dim, dim + 1);
  return narrow(joined, dim, 0, size);
}

Tensor part(const Tensor& parts, int64_t index) { return select(parts, 0, index); }

// Results shaped like `sizes` on each rank's device.
Shards room(const Group& group, const Dims& sizes, DType dtype) {
  Shards result;
  for (int r = 0; r < group.size(); ++r) result[r] = empty(sizes, dtype, group.device(r));
  return result;
}

std::span<const Tensor> all_of(const Group& group, const Shards& shards) {
  return {shards.data(), static_cast<size_t>(group.size())};
}

Dims with_ranks(int ranks, const Dims& sizes) {
  Dims result = sizes;
  result.insert(0, ranks);
  return result;
}

Shards all_reduce(Group& group, const Shards& shards, ReduceOp op) {
  Shards inputs;
  for (int r = 0; r < group.size(); ++r) inputs[r] = contiguous(shards[r]);
  Shards result = room(group, inputs[0].sizes(), inputs[0].dtype());
  group.communicator().all_reduce(all_of(group, inputs), all_of(group, result), op);
  return result;
}

// Each rank's own window along dim.
Shards slices(const Group& group, const Shards& shards, int dim) {
  Shards result;
  for (int r = 0; r < group.size(); ++r) {
    const Range range = shard_range(shards[r].sizes()[dim], group.size(), r);
    result[r] = narrow(shards[r], dim, range.start, range.length);
  }
  return result;
}

Shards all_gather(Group& group, const Shards& shards, const Dims& sizes, int dim) {
  const int n = group.size();
  const int64_t each = part_size(sizes, dim, n);
  Shards result;
  for (int r = 0; r < n; ++r) {
    Dims parts = sizes;
    parts[dim] = each;
    const Tensor all = empty(with_ranks(n, parts), shards[0].dtype(), group.device(r));
    for (int s = 0; s < n; ++s) copy_(part(all, s), pad(shards[s], dim, each), false);
    result[r] = join_parts(all, dim, sizes[dim]);
  }
  return result;
}

Shards reduce_scatter(Group& group, const Shards& shards, int dim, ReduceOp op) {
  return slices(group, all_reduce(group, shards, op), dim);
}

Shards all_to_all(Group& group, const Shards& shards, const Dims& sizes, int from, int to) {
  return slices(group, all_gather(group, shards, sizes, from), to);
}

// Its window in zeros of the whole size.
Shards padded(const Group& group, const Shards& shards, const Dims& sizes, int dim) {
  Shards result;
  for (int r = 0; r < group.size(); ++r) {
    const Range range = shard_range(sizes[dim], group.size(), r);
    result[r] = zeros(sizes, shards[r].dtype(), shards[r].device());
    copy_(narrow(result[r], dim, range.start, range.length), shards[r], false);
  }
  return result;
}

// The first rank has the values.
Shards as_terms(const Group& group, const Shards& shards) {
  Shards result{shards[0]};
  for (int r = 1; r < group.size(); ++r) result[r] = zeros_like(shards[r], {}, {});
  return result;
}

}  // namespace

Shards broadcast(Group& group, const Tensor& t, int root) {
  Shards result;
  for (int r = 0; r < group.size(); ++r)
    result[r] = r == root ? contiguous(t) : empty(t.sizes(), t.dtype(), group.device(r));
  group.communicator().broadcast(all_of(group, result), root);
  return result;
}

Shards exchange(Group& group, const Shards& shards, const Dims& sizes, Placement from,
                Placement to) {
  const GradMode unrecorded(false);
  if (from.is_shard()) {
    if (to.is_replicate()) return all_gather(group, shards, sizes, from.dim());
    if (to.is_partial()) return padded(group, shards, sizes, from.dim());
    return all_to_all(group, shards, sizes, from.dim(), to.dim());
  }
  if (from.is_partial()) {
    if (to.is_replicate()) return all_reduce(group, shards, from.op());
    return reduce_scatter(group, shards, to.dim(), from.op());
  }
  return to.is_shard() ? slices(group, shards, to.dim()) : as_terms(group, shards);
}

}  // namespace vt::sharding
