// What patterns ask about the list.
#include "fuse/patterns/pattern.h"

#include <algorithm>

#include "fuse/group.h"

namespace vt::fuse {
namespace {

bool any(const std::vector<Range>& ranges, const Range& range) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const Range& each) { return each.overlaps(range); });
}

bool conflict(const Access& a, const Access& b) {
  auto touched = [](const Access& access, const Range& range) {
    return any(access.reads, range) || any(access.writes, range);
  };
  return std::any_of(a.writes.begin(), a.writes.end(), [&](auto& r) { return touched(b, r); }) ||
         std::any_of(b.writes.begin(), b.writes.end(), [&](auto& r) { return any(a.reads, r); });
}

}  // namespace

std::vector<int> PatternList::readers(int at, const Range& range) const {
  std::vector<int> found;
  for (int i = at + 1; i < static_cast<int>(nodes_.size()); ++i) {
    if (removed(i)) continue;
    const Access access = access_of(nodes_[static_cast<size_t>(i)]);
    if (any(access.reads, range)) found.push_back(i);
    for (const Range& written : access.writes) {
      if (!written.overlaps(range)) continue;
      const bool whole = written.begin <= range.begin && range.end <= written.end;
      return whole ? found : std::vector<int>{};
    }
  }
  const bool freed = std::any_of(dead_.begin(), dead_.end(), [&](const Range& block) {
    return block.begin <= range.begin && range.end <= block.end;
  });
  return freed ? found : std::vector<int>{};
}

int PatternList::only_reader(int at, const Range& range) const {
  const std::vector<int> all = readers(at, range);
  return all.size() == 1 ? all[0] : -1;
}

int PatternList::last_writer(int at, const Range& range) const {
  for (int i = at - 1; i >= 0; --i)
    if (!removed(i) && any(access_of(nodes_[static_cast<size_t>(i)]).writes, range)) return i;
  return -1;
}

bool PatternList::may_move(const Node& node, int from, int to, int except) const {
  const Access own = access_of(node);
  for (int i = std::min(from, to) + 1; i < std::max(from, to); ++i) {
    if (removed(i) || i == except) continue;
    const Access other = access_of(nodes_[static_cast<size_t>(i)]);
    for (const Range& range : own.writes)
      if (any(other.reads, range) || any(other.writes, range)) return false;
    for (const Range& range : own.reads)
      if (any(other.writes, range)) return false;
  }
  return true;
}

bool PatternList::may_write_at(int at, const Range& range, int from) {
  const Access own = access_of((*this)[at]);
  if (any(own.reads, range) || any(own.writes, range)) return false;
  Node target(NodeKind::kCall, (*this)[from].name, (*this)[from].device);
  target.writes = {range};
  return may_move(target, from, at);
}

int PatternList::bring_together(int at, int to) {
  std::vector<Access> depending{access_of((*this)[at])};
  std::vector<int> before, after;
  for (int i = at + 1; i < to; ++i) {
    if (removed(i)) continue;
    Access own = access_of((*this)[i]);
    const bool later = std::any_of(depending.begin(), depending.end(),
                                   [&](const Access& each) { return conflict(each, own); });
    (later ? after : before).push_back(i);
    if (later) depending.push_back(std::move(own));
  }
  const Access last = access_of((*this)[to]);
  for (size_t i = 1; i < depending.size(); ++i)
    if (conflict(depending[i], last)) return -1;
  std::vector<Node> order;
  for (int i : before) order.push_back(std::move((*this)[i]));
  order.push_back(std::move((*this)[at]));
  order.push_back(std::move((*this)[to]));
  for (int i : after) order.push_back(std::move((*this)[i]));
  // Where nodes were removed, fewer come back than there were.
  for (size_t i = 0; i < order.size(); ++i) (*this)[at + static_cast<int>(i)] = std::move(order[i]);
  for (int i = at; i <= to && !removed_.empty(); ++i)
    removed_[static_cast<size_t>(i)] = i >= at + static_cast<int>(order.size());
  return at + static_cast<int>(before.size());
}

void PatternList::compact() {
  if (removed_.empty()) return;
  size_t kept = 0;
  for (size_t i = 0; i < nodes_.size(); ++i)
    if (!removed_[i]) {
      if (kept != i) nodes_[kept] = std::move(nodes_[i]);
      ++kept;
    }
  nodes_.erase(nodes_.begin() + static_cast<int64_t>(kept), nodes_.end());
  removed_.clear();
}

bool is_run(const Window& window, const Space& space, int64_t bytes) {
  int64_t run = static_cast<int64_t>(item_size(window.dtype));
  for (int d = 0; d < space.ndim; ++d) {
    if (window.strides[d] != run) return false;
    run *= space.sizes[d];
  }
  return run == bytes;
}

bool is_whole(const Window& window, const Space& space, const Tensor& t) {
  if (!t.defined() || !t.is_dense() || window.data != t.data<char>() || window.dtype != t.dtype() ||
      space.numel() != t.numel())
    return false;
  return is_run(window, space, static_cast<int64_t>(t.bytes()));
}

Tensor dense_over(char* data, const Dims& sizes, DType dtype, Device device) {
  size_t bytes = item_size(dtype);
  for (const int64_t size : sizes) bytes *= static_cast<size_t>(size);
  return Tensor(Ref<TensorImpl>::adopt(new TensorImpl(Storage::wrap(device, data, bytes, {}), sizes,
                                                      row_major_strides(sizes), 0, dtype)));
}

Tensor over(const Window& window, const Tensor& like) {
  return dense_over(window.data, like.sizes(), like.dtype(), like.device());
}

bool is_plain_sum(const Node& node) {
  if (node.kind != NodeKind::kPointwise || std::string_view(node.name) != "add" ||
      node.scalar_at != kNoScalar || node.params[0].to<double>() != 1)
    return false;
  for (int i = 0; i < 2; ++i)
    for (int d = 0; d < node.space.ndim; ++d)
      if (node.in[i].strides[d] != node.out.strides[d]) return false;
  return true;
}

}  // namespace vt::fuse
