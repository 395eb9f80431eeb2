// What a sharding rule decides about one call, and how a decided call runs on every rank.
#pragma once
#include <tuple>
#include <utility>

#include "ops/operand.h"
#include "sharding/redistribute.h"

namespace vt::sharding {

inline constexpr int kMaxInputs = 8;

// The tensors of a call in the order of the signature; null for a number or a tensor not given.
struct Inputs {
  const char* op;
  std::span<const FabricTensor* const> all;

  const FabricTensor* operator[](size_t i) const { return all[i]; }
  size_t size() const { return all.size(); }
  // The group of all of them; FabricError where they are on different meshes.
  Group& group() const;
};

struct Plan {
  std::array<Placement, kMaxInputs> inputs;  // where each tensor has to be brought first
  Placement output;                          // of every result
  // For operators that are given a shape: the logical one, and which of its dimensions is cut.
  Dims sizes = {};
  int cut = -1;
  // Inputs that only the first rank is given: a term that must count once in a sum.
  uint32_t first_only = 0;

  Dims local_sizes(int ranks, int rank) const {
    Dims local = sizes;
    if (cut >= 0) local[cut] = shard_range(sizes[cut], ranks, rank).length;
    return local;
  }
};

// An input where the plan wants it; [rank] is what the rank's call gets.
class Brought {
 public:
  Brought(const Inputs& in, const Plan& plan, int i) : first_only_(plan.first_only >> i & 1) {
    if (!in[i] || !in[i]->defined()) return;
    tensor_ = redistribute(*in[i], plan.inputs[i]);
    locals_ = tensor_.inputs();
  }
  const Tensor& operator[](int rank) const {
    static const Tensor kNone;
    return locals_.empty() || (first_only_ && rank > 0) ? kNone : locals_[rank];
  }

 private:
  FabricTensor tensor_;
  std::span<const Tensor> locals_;
  bool first_only_;
};

class BroughtOperand {
 public:
  BroughtOperand(const Inputs& in, const Plan& plan, int i, const FabricOperand& given)
      : tensor_(in, plan, i), given_(given) {}
  Operand operator[](int rank) const {
    return given_.is_tensor() ? Operand(tensor_[rank]) : Operand(given_.scalar);
  }

 private:
  Brought tensor_;
  const FabricOperand& given_;
};

// A list of tensors, all of them inputs from number `first` on and placed alike.
class BroughtList {
 public:
  BroughtList(const Inputs& in, const Plan& plan) {
    for (const FabricTensor* each : in.all) tensors_.push_back(redistribute(*each, plan.inputs[0]));
  }
  std::vector<Tensor> operator[](int rank) const {
    std::vector<Tensor> result;
    for (const FabricTensor& each : tensors_) result.push_back(each.inputs()[rank]);
    return result;
  }

 private:
  std::vector<FabricTensor> tensors_;
};

// Results of a view operator. Those of an input that was moved, or is apart itself, are apart from
// the tensor that the caller views.
inline FabricTensor viewed(const Inputs& in, const Plan& plan, FabricTensor result) {
  if (in[0]->is_apart() || !(plan.inputs[0] == in[0]->placement())) result.set_apart();
  return result;
}
// An error where in[0] is apart from the tensor that it was to change.
inline void check_in_place(const Inputs& in) {
  VT_CHECK(!in[0]->is_apart(), kNotImplemented, in.op, ": ", *in[0],
           " cannot be changed in place: it is a view for which the tensor had to be moved between "
           "ranks, and that would not change with it; reshard(Replicate()) before viewing, or "
           "compute a new tensor");
}
inline std::vector<FabricTensor> viewed(const Inputs& in, const Plan& plan,
                                        std::vector<FabricTensor> results) {
  for (FabricTensor& each : results) each = viewed(in, plan, each);
  return results;
}

// Runs an operator on every rank, in the order of the ranks: `local(rank)` gives a tensor, a tuple
// or a list of them. On GPUs this only queues.
template <class F>
auto run(Group& group, Placement placement, F&& local) {
  using Result = decltype(local(0));
  const int n = group.size();
  if constexpr (std::is_same_v<Result, Tensor>) {
    Shards shards;
    for (int r = 0; r < n; ++r) shards[r] = local(r);
    return FabricTensor(group, placement, std::move(shards));
  } else if constexpr (std::is_same_v<Result, std::vector<Tensor>>) {
    std::vector<Shards> shards;
    for (int r = 0; r < n; ++r) {
      std::vector<Tensor> list = local(r);
      shards.resize(list.size());
      for (size_t i = 0; i < list.size(); ++i) shards[i][r] = std::move(list[i]);
    }
    std::vector<FabricTensor> results;
    for (Shards& each : shards) results.emplace_back(group, placement, std::move(each));
    return results;
  } else {
    constexpr size_t kCount = std::tuple_size_v<Result>;
    std::array<Shards, kCount> shards;
    const auto split = [&]<size_t... I>(Result&& tuple, int r, std::index_sequence<I...>) {
      ((shards[I][r] = std::move(std::get<I>(tuple))), ...);
    };
    for (int r = 0; r < n; ++r) split(local(r), r, std::make_index_sequence<kCount>());
    return [&]<size_t... I>(std::index_sequence<I...>) {
      return std::make_tuple(FabricTensor(group, placement, std::move(shards[I]))...);
    }(std::make_index_sequence<kCount>());
  }
}

}  // namespace vt::sharding
