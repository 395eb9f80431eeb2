// Grouping: each node starts as a group of its own, and groups that share memory merge where one
// kernel can do the work of both. See Note [When groups may merge].
#include "fuse/group.h"

#include <algorithm>

namespace vt::fuse {
namespace {

// Note [When groups may merge]
// Two groups become one kernel if
// - their spaces have a common refinement;
// - wherever one writes memory that the other touches, both walk exactly the same window: an
//   element is then read and written by one thread, in the order of the list;
// - no third group must run between them.
// The last is a question of paths: nodes depend only on earlier ones, and merging keeps the graph
// of groups free of circles, so it is enough to look for a path that leaves the pair and comes
// back.

Range range_of(const Window& window, const Space& space) {
  return {window.data, window.end(space)};
}

bool any_overlap(const std::vector<Range>& a, const std::vector<Range>& b) {
  for (const Range& x : a)
    for (const Range& y : b)
      if (x.overlaps(y)) return true;
  return false;
}

class Grouping {
 public:
  explicit Grouping(const std::vector<Node>& nodes) : nodes_(nodes) {
    const size_t n = nodes.size();
    groups_.resize(n);
    access_.reserve(n);
    after_.assign(n, std::vector<bool>(n, false));
    for (size_t i = 0; i < n; ++i) {
      groups_[i] = {{static_cast<int>(i)}, nodes[i].space, nodes[i].row, {false}};
      access_.push_back(access_of(nodes[i]));
      for (size_t e = 0; e < i; ++e)
        after_[i][e] = any_overlap(access_[i].reads, access_[e].writes) ||
                       any_overlap(access_[i].writes, access_[e].writes) ||
                       any_overlap(access_[i].writes, access_[e].reads);
    }
  }

  void merge_all() {
    for (int i = 0; i < static_cast<int>(nodes_.size()); ++i) {
      if (!nodes_[i].elementwise()) continue;
      for (int e = i - 1; e >= 0; --e) {
        const int from = find(e), to = find(i);
        if (from == to || !nodes_[e].elementwise() || !shares(e, i)) continue;
        try_merge(from, to);
      }
    }
  }

  std::vector<Group> in_order() {
    std::vector<Group> result;
    std::vector<bool> done(groups_.size(), false);
    for (size_t left = live(); left > 0; --left)
      for (size_t g = 0; g < groups_.size(); ++g) {
        if (groups_[g].nodes.empty() || done[g] || !ready(static_cast<int>(g), done)) continue;
        done[g] = true;
        result.push_back(std::move(groups_[g]));
        groups_[g].nodes = {-1};
        break;
      }
    return result;
  }

 private:
  // The group of a node.
  int find(int node) const {
    for (size_t g = 0; g < groups_.size(); ++g)
      if (std::binary_search(groups_[g].nodes.begin(), groups_[g].nodes.end(), node))
        return static_cast<int>(g);
    return -1;
  }
  size_t live() const {
    return static_cast<size_t>(std::count_if(groups_.begin(), groups_.end(),
                                             [](const Group& g) { return !g.nodes.empty(); }));
  }

  // Is there something to gain: a value that the later one reads or overwrites, or memory that
  // both read?
  bool shares(int earlier, int later) const {
    if (after_[later][earlier]) return true;
    const Node &e = nodes_[earlier], &n = nodes_[later];
    for (int i = 0; i < e.inputs; ++i)
      for (int j = 0; j < n.inputs; ++j)
        if (i != e.scalar_at && j != n.scalar_at && e.in[i].data == n.in[j].data) return true;
    return false;
  }

  bool depends(int later_group, int earlier_group) const {
    for (int n : groups_[later_group].nodes)
      for (int e : groups_[earlier_group].nodes)
        if (n > e && after_[n][e]) return true;
    return false;
  }

  // Must `to` run after `from` because of a third group?
  bool path_around(int from, int to) const {
    std::vector<bool> seen(groups_.size(), false);
    std::vector<int> stack;
    auto push_users = [&](int group, bool direct) {
      for (int g = 0; g < static_cast<int>(groups_.size()); ++g) {
        if (groups_[g].nodes.empty() || seen[g] || g == group) continue;
        if (direct && g == to) continue;
        if (!depends(g, group)) continue;
        seen[g] = true;
        stack.push_back(g);
      }
    };
    push_users(from, true);
    while (!stack.empty()) {
      const int g = stack.back();
      stack.pop_back();
      if (g == to) return true;
      push_users(g, false);
    }
    return false;
  }

  // Do both walk the same window wherever one writes what the other touches?
  bool compatible(const Node& earlier, bool lift_earlier, const Node& later, bool lift_later,
                  const Group& both) const {
    const Space& fine = both.space;
    const Window wrote = seen(earlier, earlier.out, lift_earlier, both);
    const Window writes = seen(later, later.out, lift_later, both);
    auto clash = [&](const Window& a, const Window& b) {
      return overlap(a.data, a.end(fine), b.data, b.end(fine)) && !a.same(b, fine);
    };
    if (clash(wrote, writes)) return false;
    for (int i = 0; i < later.inputs; ++i)
      if (i != later.scalar_at && clash(wrote, seen(later, later.in[i], lift_later, both)))
        return false;
    for (int i = 0; i < earlier.inputs; ++i)
      if (i != earlier.scalar_at && clash(writes, seen(earlier, earlier.in[i], lift_earlier, both)))
        return false;
    return true;
  }

  // How many pieces of memory a kernel of both would touch at most; values without memory most
  // likely stay in registers.
  int addresses(const Group& a, const Group& b) const {
    std::vector<const char*> found;
    for (const Group* g : {&a, &b})
      for (int n : g->nodes) {
        const Node& node = nodes_[n];
        if (!is_unplaced(node.out)) found.push_back(node.out.data);
        for (int i = 0; i < node.inputs; ++i)
          if (i != node.scalar_at && !is_unplaced(node.in[i])) found.push_back(node.in[i].data);
      }
    std::sort(found.begin(), found.end());
    return static_cast<int>(std::unique(found.begin(), found.end()) - found.begin());
  }

  // The space of both in `both`, and whether one of them runs over the rows of the other.
  bool common_space(const Group& a, const Group& b, Group& both, bool& lift_a, bool& lift_b) const {
    lift_a = lift_b = false;
    if (a.row != 0 && b.row != 0 && a.row != b.row) return false;
    both.row = std::max(a.row, b.row);
    if (both.row == 0) return refine(a.space, b.space, both.space);
    const int64_t numel = std::max(a.space.numel(), b.space.numel());
    lift_a = a.row == 0 && a.space.numel() * both.row == numel;
    lift_b = b.row == 0 && b.space.numel() * both.row == numel;
    if ((lift_a && a.space.ndim == kMaxDims) || (lift_b && b.space.ndim == kMaxDims)) return false;
    return refine(lift_a ? fuse::lifted(a.space, both.row) : a.space,
                  lift_b ? fuse::lifted(b.space, both.row) : b.space, both.space) &&
           dims_of_row(both.space, both.row) > 0;
  }

  void try_merge(int from, int to) {
    Group &a = groups_[from], &b = groups_[to];
    Group both;
    bool lift_a = false, lift_b = false;
    if (nodes_[a.nodes[0]].device != nodes_[b.nodes[0]].device ||
        a.nodes.size() + b.nodes.size() > kMaxSteps || !common_space(a, b, both, lift_a, lift_b))
      return;
    if (addresses(a, b) > kMaxWindows) return;
    auto is_lifted = [](const Group& g, size_t i, bool now) { return now || g.lifted[i]; };
    for (size_t i = 0; i < a.nodes.size(); ++i)
      for (size_t j = 0; j < b.nodes.size(); ++j) {
        const Node &e = nodes_[a.nodes[i]], &n = nodes_[b.nodes[j]];
        const bool le = is_lifted(a, i, lift_a), ln = is_lifted(b, j, lift_b);
        if (!(a.nodes[i] < b.nodes[j] ? compatible(e, le, n, ln, both)
                                      : compatible(n, ln, e, le, both)))
          return;
      }
    if (path_around(from, to) || path_around(to, from)) return;
    for (size_t i = 0, j = 0; i < a.nodes.size() || j < b.nodes.size();) {
      const bool first = j == b.nodes.size() || (i < a.nodes.size() && a.nodes[i] < b.nodes[j]);
      both.nodes.push_back(first ? a.nodes[i] : b.nodes[j]);
      both.lifted.push_back(first ? is_lifted(a, i, lift_a) : is_lifted(b, j, lift_b));
      ++(first ? i : j);
    }
    b.nodes.clear();
    a = std::move(both);
  }

  bool ready(int group, const std::vector<bool>& done) const {
    for (int g = 0; g < static_cast<int>(groups_.size()); ++g)
      if (g != group && !groups_[g].nodes.empty() && !done[g] && depends(group, g)) return false;
    return true;
  }

  const std::vector<Node>& nodes_;
  std::vector<Group> groups_;
  std::vector<Access> access_;
  std::vector<std::vector<bool>> after_;  // [n][e]: n must run after e
};

}  // namespace

Window seen(const Node& node, const Window& window, bool is_lifted, const Group& group) {
  if (!is_lifted) return spread(window, node.space, group.space);
  return spread(lifted(window, node.space), lifted(node.space, group.row), group.space);
}

Access access_of(const Node& node) {
  if (!node.elementwise()) return {node.reads, node.writes};
  Access access;
  for (int i = 0; i < node.inputs; ++i)
    if (i != node.scalar_at) access.reads.push_back(range_of(node.in[i], node.space));
  access.writes.push_back(range_of(node.out, node.space));
  return access;
}

std::vector<Group> make_groups(const std::vector<Node>& nodes, bool fuse) {
  Grouping grouping(nodes);
  if (fuse) grouping.merge_all();
  return grouping.in_order();
}

}  // namespace vt::fuse
