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
  return contiguous(movedim(unflatten(pad(t, dim, part * ranks), dim, Dims{ranks, part}), dim, 0));
}

// The other way: dense parts [ranks, .., part, ..] as [.., size, ..].
Tensor join_parts(const Tensor& parts, int dim, int64_t size) {
  const Tensor joined = flatten(movedim(parts, 0, dim), dim, dim + 1);
  return contiguous(narrow(joined, dim, 0, size));
}

std::span<const Tensor> all_of(const Group& group, const Shards& shards) {
  return {shards.data(), static_cast<size_t>(group.size())};
}

Dims with_ranks(int ranks, const Dims& sizes) {
  Dims result = sizes;
  result.insert(0, ranks);
  return result;
}

// One collective over dense tensors; the results have the shape `sizes` on every rank.
Shards collective(Group& group, Kind kind, const Shards& inputs, const Dims& sizes,
                  ReduceOp op = ReduceOp::kSum) {
  Shards results;
  for (int r = 0; r < group.size(); ++r)
    results[r] = empty(sizes, inputs[0].dtype(), group.device(r));
  group.communicator().run({kind, op}, all_of(group, inputs), all_of(group, results));
  return results;
}

Shards all_reduce(Group& group, const Shards& shards, ReduceOp op) {
  Shards inputs;
  for (int r = 0; r < group.size(); ++r) inputs[r] = contiguous(shards[r]);
  return collective(group, Kind::kAllReduce, inputs, inputs[0].sizes(), op);
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

// What of the first part of a cut dimension of `size` is the rank's own.
Tensor trim(const Tensor& t, int dim, int64_t size, int ranks, int rank) {
  return narrow(t, dim, 0, shard_range(size, ranks, rank).length);
}

Shards all_gather(Group& group, const Shards& shards, const Dims& sizes, int dim) {
  Dims one = sizes;
  one[dim] = part_size(sizes, dim, group.size());
  Shards inputs;
  for (int r = 0; r < group.size(); ++r) inputs[r] = contiguous(pad(shards[r], dim, one[dim]));
  Shards results = collective(group, Kind::kAllGather, inputs, with_ranks(group.size(), one));
  for (int r = 0; r < group.size(); ++r) results[r] = join_parts(results[r], dim, sizes[dim]);
  return results;
}

Shards reduce_scatter(Group& group, const Shards& shards, const Dims& sizes, int dim, ReduceOp op) {
  const int n = group.size();
  Dims one = sizes;
  one[dim] = part_size(sizes, dim, n);
  Shards inputs;
  for (int r = 0; r < n; ++r) inputs[r] = split_parts(shards[r], dim, n);
  Shards results = collective(group, Kind::kReduceScatter, inputs, one, op);
  for (int r = 0; r < n; ++r) results[r] = trim(results[r], dim, sizes[dim], n, r);
  return results;
}

Shards all_to_all(Group& group, const Shards& shards, const Dims& sizes, int from, int to) {
  const int n = group.size();
  Dims one = sizes;
  one[from] = part_size(sizes, from, n);
  one[to] = part_size(sizes, to, n);
  Shards inputs;
  for (int r = 0; r < n; ++r) inputs[r] = split_parts(pad(shards[r], from, one[from]), to, n);
  Shards results = collective(group, Kind::kAllToAll, inputs, with_ranks(n, one));
  for (int r = 0; r < n; ++r)
    results[r] = trim(join_parts(results[r], from, sizes[from]), to, sizes[to], n, r);
  return results;
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
    return reduce_scatter(group, shards, sizes, to.dim(), from.op());
  }
  return to.is_shard() ? slices(group, shards, to.dim()) : as_terms(group, shards);
}

}  // namespace vt::sharding
