// The work of one group as a straight line: loads, steps, stores. Values that nobody reads again
// from memory are not stored, steps that lead to no store are dropped.
#pragma once
#include "fuse/group.h"

namespace vt::fuse {

struct Argument {
  enum Kind : uint8_t { kLoad, kStep, kNumber } kind;
  int index;  // of the load or step; the input itself for a number
  bool operator==(const Argument&) const = default;
};

struct Step {
  const Node* node;
  bool once = false;  // a row has this value once
  Argument arguments[kMaxInputs];
};

struct Store {
  int step;
  Window window;
};

struct Program {
  Device device;
  Space space;
  int64_t row = 0;  // as the group's
  std::vector<Window> loads;
  std::vector<Step> steps;
  std::vector<Store> stores;
  int dropped = 0;     // steps that nothing needed
  int not_stored = 0;  // values that stayed in registers
  int64_t saved = 0;   // bytes that the nodes one by one would have moved beyond this program's
};

// Blocks that were freed while work on them was pending.
using DeadRanges = std::vector<Range>;

// Is what `node` (of the list, at `position`) writes read by nobody but the members of `group`?
bool is_private(const std::vector<Node>& nodes, int position, const Group& group,
                const DeadRanges& dead);

// Can a program with rows be run row by row? Its rows lie in one run of memory, and nothing that a
// row has once is read and written by the same program.
bool rows_are_simple(const Program& program);

// The windows of a step's result and of the whole program, by whether a row has the value once.
bool once_a_row(const Program& program, const Window& window);

Program make_program(const std::vector<Node>& nodes, const Group& group, const DeadRanges& dead);

}  // namespace vt::fuse
