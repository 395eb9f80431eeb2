// Patterns: passes over the list of what is pending that replace a few nodes by one structured
// kernel. Each is a file of this folder; they run before grouping.
#pragma once
#include <string>

#include "fuse/functors.h"
#include "fuse/program.h"
#include "fuse/record_calls.h"

namespace vt::fuse {

// The list that patterns work on. Positions stay valid until `compact`, and below an `insert`.
class PatternList {
 public:
  // `place(i)` gives the windows of node i memory: Note [Memory that is given back early].
  using Place = std::function<void(int)>;
  // A tensor for the length of the run.
  using Make = std::function<Tensor(const Dims&, DType, Device)>;
  PatternList(std::vector<Node>& nodes, const DeadRanges& dead, Place place, Make make)
      : nodes_(nodes), dead_(dead), place_(std::move(place)), make_(std::move(make)) {}

  void place(int i) { place_(i); }
  Tensor make(const Dims& sizes, DType dtype, Device device) const {
    return make_(sizes, dtype, device);
  }

  int size() const { return static_cast<int>(nodes_.size()); }
  Node& operator[](int i) { return nodes_[static_cast<size_t>(i)]; }
  bool removed(int i) const { return !removed_.empty() && removed_[static_cast<size_t>(i)]; }

  // The node after `at` that reads `range`, if it is the only one that touches it until the memory
  // is freed or written anew; else -1. So nobody misses the value if that node does not need it.
  int only_reader(int at, const Range& range) const;
  // All nodes after `at` that read `range`, in their order, under the same condition; else none.
  std::vector<int> readers(int at, const Range& range) const;
  // The last node before `at` that writes any of `range`; -1 where there is none.
  int last_writer(int at, const Range& range) const;

  // May what `node` does be done at `to` instead of at `from`? (Nobody between them reads or writes
  // what it writes, or writes what it reads.) `except`: a node that is removed as well.
  bool may_move(const Node& node, int from, int to, int except = -1) const;

  // May node `at` also write `range`, which a later node `from` writes now? (Neither does it touch
  // that, nor anybody between them.)
  bool may_write_at(int at, const Range& range, int from);

  // Makes node `to` the next one after node `at`, if it does not need what lies between them and
  // depends on `at`: that comes after `to` then. The new position of `at`, or -1.
  int bring_together(int at, int to);

  // Puts a node in front of node i.
  void insert(int i, Node node) {
    nodes_.insert(nodes_.begin() + i, std::move(node));
    if (!removed_.empty()) removed_.insert(removed_.begin() + i, false);
  }
  void remove(int i) {
    removed_.resize(nodes_.size(), false);
    removed_[static_cast<size_t>(i)] = true;
  }
  void compact();

 private:
  std::vector<Node>& nodes_;
  const DeadRanges& dead_;
  Place place_;
  Make make_;
  std::vector<bool> removed_;
};

// Is the window dense, and of so many bytes?
bool is_run(const Window& window, const Space& space, int64_t bytes);
// Are these the same elements, in the same dense order?
bool is_whole(const Window& window, const Space& space, const Tensor& t);

// A handle on memory that keeps nothing alive, as a dense tensor.
Tensor dense_over(char* data, const Dims& sizes, DType dtype, Device device);
// The same on the memory of a window, shaped as the dense tensor `like`.
Tensor over(const Window& window, const Tensor& like);

// add(a, b) of two tensors of one type and dense space, with alpha 1.
bool is_plain_sum(const Node& node);

// Each returns how often it was found.
int fuse_add_norm(PatternList& list);
int fuse_norm_backward_add(PatternList& list);
int fuse_norm_backward_sum(PatternList& list);
int fuse_copies(PatternList& list);
int fuse_linear_add(PatternList& list);
int fuse_gelu_slope(PatternList& list);
int fuse_linear_gelu(PatternList& list);
int fuse_gelu_backward(PatternList& list);
int fuse_column_sums(PatternList& list);
int fuse_attention_sums(PatternList& list);
int fuse_cross_entropy(PatternList& list);
int fuse_linear_cross_entropy(PatternList& list);

}  // namespace vt::fuse
