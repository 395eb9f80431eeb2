// Which work of a captured step may run on a second stream, beside what does not wait for it.
#pragma once
#include <vector>

#include "fuse/group.h"

namespace vt::fuse {

// Note [Work beside]
// A product on a GPU leaves multiprocessors idle while its last tiles end and the next kernel
// starts. The gradients of weights are large products that nothing waits for until the gradients
// are clipped; on a stream of their own, which goes first, the two chains fill each other's gaps.
// Every group still runs after those that it conflicts with, so the bits are the same. Memory: what
// the list touches and was freed is kept until the list has run (Note [Putting work off]), and the
// streams are joined before it goes back; scratch of a group aside is the second stream's, so
// nobody on the first one is given it.
struct Beside {
  std::vector<bool> aside;  // by group: on the second stream
  std::vector<std::vector<int>>
      after;                // [g + 1]: those that start when group g, or none, is queued
  std::vector<bool> joins;  // by group: touches what one aside of an earlier place does
  int count = 0;            // of those aside
};
Beside plan_beside(const std::vector<Node>& nodes, const std::vector<Group>& groups);

// The second stream of a device, for as long as the process lives.
Stream stream_aside(Device device);

}  // namespace vt::fuse
