// Making programs of groups.
#include "fuse/program.h"

#include <algorithm>

namespace vt::fuse {
namespace {

bool is_dead(const Range& range, const DeadRanges& dead) {
  return std::any_of(dead.begin(), dead.end(), [&](const Range& block) {
    return block.begin <= range.begin && range.end <= block.end;
  });
}

bool reads(const Node& node, const Range& range) {
  if (!node.elementwise())
    return std::any_of(node.reads.begin(), node.reads.end(),
                       [&](const Range& r) { return r.overlaps(range); });
  for (int i = 0; i < node.inputs; ++i)
    if (i != node.scalar_at && range.overlaps({node.in[i].data, node.in[i].end(node.space)}))
      return true;
  return false;
}

int64_t bytes_of(const Window& window, const Space& space) {
  int64_t elements = 1;
  for (int d = 0; d < space.ndim; ++d)
    if (window.strides[d] != 0) elements *= space.sizes[d];
  return elements * static_cast<int64_t>(item_size(window.dtype));
}

class Builder {
 public:
  Builder(const std::vector<Node>& nodes, const Group& group, const DeadRanges& dead)
      : nodes_(nodes), group_(group), dead_(dead) {
    program_.device = nodes[static_cast<size_t>(group.nodes[0])].device;
    program_.space = group.space;
    program_.row = group.row;
  }

  Program build() {
    for (size_t i = 0; i < group_.nodes.size(); ++i)
      add(nodes_[static_cast<size_t>(group_.nodes[i])], group_.lifted[i]);
    for (size_t i = 0; i < group_.nodes.size(); ++i) add_store(static_cast<int>(i));
    drop_unneeded();
    count_bytes();
    merge_dimensions();
    return std::move(program_);
  }

 private:
  Argument source_of(const Window& window) {
    for (int s = static_cast<int>(written_.size()) - 1; s >= 0; --s)
      if (written_[static_cast<size_t>(s)].same(window, program_.space))
        return {Argument::kStep, s};
    for (size_t l = 0; l < program_.loads.size(); ++l)
      if (program_.loads[l].same(window, program_.space))
        return {Argument::kLoad, static_cast<int>(l)};
    program_.loads.push_back(window);
    return {Argument::kLoad, static_cast<int>(program_.loads.size()) - 1};
  }

  void add(const Node& node, bool is_lifted) {
    const Window out = seen(node, node.out, is_lifted, group_);
    Step step{&node, once_a_row(program_, out), {}};
    for (int i = 0; i < node.inputs; ++i)
      step.arguments[i] = i == node.scalar_at
                              ? Argument{Argument::kNumber, i}
                              : source_of(seen(node, node.in[i], is_lifted, group_));
    program_.steps.push_back(step);
    written_.push_back(out);
  }

  void add_store(int step) {
    const Window& window = written_[static_cast<size_t>(step)];
    for (size_t later = static_cast<size_t>(step) + 1; later < written_.size(); ++later)
      if (written_[later].same(window, program_.space)) return;
    if (is_private(nodes_, group_.nodes[static_cast<size_t>(step)], group_, dead_)) return;
    program_.stores.push_back({step, window});
  }

  void drop_unneeded() {
    auto& steps = program_.steps;
    std::vector<bool> needed(steps.size(), false), loaded(program_.loads.size(), false);
    for (const Store& store : program_.stores) needed[static_cast<size_t>(store.step)] = true;
    for (size_t s = steps.size(); s-- > 0;) {
      if (!needed[s]) continue;
      for (int i = 0; i < steps[s].node->inputs; ++i) {
        const Argument& a = steps[s].arguments[i];
        if (a.kind == Argument::kStep) needed[static_cast<size_t>(a.index)] = true;
        if (a.kind == Argument::kLoad) loaded[static_cast<size_t>(a.index)] = true;
      }
    }
    std::vector<int> step_at(steps.size()), load_at(loaded.size());
    int count = 0;
    for (size_t s = 0; s < steps.size(); ++s) step_at[s] = needed[s] ? count++ : -1;
    program_.dropped = static_cast<int>(steps.size()) - count;
    program_.not_stored = count - static_cast<int>(program_.stores.size());
    count = 0;
    for (size_t l = 0; l < loaded.size(); ++l) load_at[l] = loaded[l] ? count++ : -1;
    std::vector<Step> kept;
    for (size_t s = 0; s < steps.size(); ++s) {
      if (!needed[s]) continue;
      kept.push_back(steps[s]);
      for (Argument& a : kept.back().arguments) {
        if (a.kind == Argument::kStep) a.index = step_at[static_cast<size_t>(a.index)];
        else if (a.kind == Argument::kLoad && !load_at.empty())
          a.index = load_at[static_cast<size_t>(a.index)];
      }
    }
    std::vector<Window> windows;
    for (size_t l = 0; l < loaded.size(); ++l)
      if (loaded[l]) windows.push_back(program_.loads[l]);
    steps = std::move(kept);
    program_.loads = std::move(windows);
    for (Store& store : program_.stores) store.step = step_at[static_cast<size_t>(store.step)];
  }

  void count_bytes() {
    int64_t apart = 0, together = 0;
    for (int n : group_.nodes) {
      const Node& node = nodes_[static_cast<size_t>(n)];
      apart += bytes_of(node.out, node.space);
      for (int i = 0; i < node.inputs; ++i)
        if (i != node.scalar_at) apart += bytes_of(node.in[i], node.space);
    }
    for (const Window& load : program_.loads) together += bytes_of(load, program_.space);
    for (const Store& store : program_.stores) together += bytes_of(store.window, program_.space);
    program_.saved = apart - together;
  }

  template <class F>
  void each_window(F&& f) {
    for (Window& load : program_.loads) f(load);
    for (Store& store : program_.stores) f(store.window);
  }

  void merge_dimensions() {
    Space& space = program_.space;
    if (space.ndim == 0) return;
    const int row_dims = program_.row == 0 ? 0 : dims_of_row(space, program_.row);
    int last = 0;
    for (int d = 1; d < space.ndim; ++d) {
      bool mergeable = d != row_dims;
      each_window([&](Window& w) {
        mergeable = mergeable && w.strides[d] == w.strides[last] * space.sizes[last];
      });
      if (mergeable) {
        space.sizes[last] *= space.sizes[d];
        continue;
      }
      ++last;
      space.sizes[last] = space.sizes[d];
      each_window([&](Window& w) { w.strides[last] = w.strides[d]; });
    }
    space.ndim = last + 1;
  }

  const std::vector<Node>& nodes_;
  const Group& group_;
  const DeadRanges& dead_;
  Program program_;
  std::vector<Window> written_;  // by each step
};

}  // namespace

bool once_a_row(const Program& program, const Window& window) {
  return program.row != 0 && repeats(window, dims_of_row(program.space, program.row));
}

bool rows_are_simple(const Program& program) {
  if (dims_of_row(program.space, program.row) != 1) return false;
  auto simple = [&](const Window& w) {
    return w.strides[0] == 0 || w.strides[0] == static_cast<int64_t>(item_size(w.dtype));
  };
  for (const Window& load : program.loads)
    if (!simple(load)) return false;
  for (const Store& store : program.stores) {
    if (!simple(store.window)) return false;
    if (store.window.strides[0] == 0)
      for (const Window& load : program.loads)
        if (load.data == store.window.data) return false;
  }
  return true;
}

bool is_private(const std::vector<Node>& nodes, int position, const Group& group,
                const DeadRanges& dead) {
  const Node& node = nodes[static_cast<size_t>(position)];
  const Range range{node.out.data, node.out.end(node.space)};
  if (!is_dead(range, dead)) return false;
  for (size_t n = static_cast<size_t>(position) + 1; n < nodes.size(); ++n)
    if (!std::binary_search(group.nodes.begin(), group.nodes.end(), static_cast<int>(n)) &&
        reads(nodes[n], range))
      return false;
  return true;
}

Program make_program(const std::vector<Node>& nodes, const Group& group, const DeadRanges& dead) {
  return Builder(nodes, group, dead).build();
}

}  // namespace vt::fuse
