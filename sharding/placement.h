// How one logical tensor lies on the ranks of a mesh: whole on each, cut along a dimension, or as
// terms whose reduction it is.
#pragma once
#include <ostream>

#include "base/dims.h"
#include "collectives/collective.h"

namespace vt::sharding {

using collectives::ReduceOp;

class Placement {
 public:
  Placement() = default;  // Replicate
  static Placement replicate() { return {}; }
  // A negative dimension counts from the end; `in` settles it.
  static Placement shard(int dim) { return Placement(Kind::kShard, dim, ReduceOp::kSum); }
  static Placement partial(ReduceOp op = ReduceOp::kSum) {
    return Placement(Kind::kPartial, 0, op);
  }

  bool is_replicate() const { return kind_ == Kind::kReplicate; }
  bool is_shard() const { return kind_ == Kind::kShard; }
  bool is_shard(int dim) const { return is_shard() && dim_ == dim; }
  bool is_partial() const { return kind_ == Kind::kPartial; }
  bool is_sum() const { return is_partial() && op_ == ReduceOp::kSum; }
  int dim() const { return dim_; }
  ReduceOp op() const { return op_; }
  bool operator==(const Placement&) const = default;

  // For a tensor of `dims` dimensions: a dimension in [0, dims). IndexError otherwise.
  Placement in(int dims) const;

 private:
  enum class Kind : uint8_t { kReplicate, kShard, kPartial };
  Placement(Kind kind, int dim, ReduceOp op)
      : kind_(kind), op_(op), dim_(static_cast<int16_t>(dim)) {}

  Kind kind_ = Kind::kReplicate;
  ReduceOp op_ = ReduceOp::kSum;
  int16_t dim_ = 0;
};

std::ostream& operator<<(std::ostream& out, Placement placement);

// Note [Gradients of placements]
// Each rank runs the ordinary autograd on its local tensors, so a local gradient is the derivative
// of the loss by that rank's local tensor. What the local gradients make up together follows: of a
// Shard they are the shards of the gradient; of a Replicate each holds only what went through its
// own copy, so their sum is the gradient (Partial); of a Partial sum each term's derivative is the
// whole gradient (Replicate). A change of placement is linear, and its transpose leads from the
// gradient's placement of its result to that of its input: the transpose of an all-gather
// (Shard to Replicate) is a reduce-scatter (Partial to Shard). Formulas of single operators need
// no rule of their own.
Placement gradient_placement(Placement of);

// The window of rank `rank` on a dimension of `size`: ceil(size / ranks) each, the last ones less.
struct Range {
  int64_t start, length;
};
Range shard_range(int64_t size, int ranks, int rank);

}  // namespace vt::sharding
