// The plan of a list's work on two streams.
#include "fuse/beside.h"

#include <algorithm>
#include <mutex>

namespace vt::fuse {
namespace {

constexpr int64_t kLeastWork = int64_t{1} << 33;  // multiply-adds: below, a fork costs too much

// A large product of a transposed matrix, as the gradient of a weight is, or sums of columns.
bool is_for_weights(const Node& node) {
  if (node.device.is_cpu()) return false;
  if (const auto* gemm = std::get_if<Gemm>(&node.call))
    return gemm->batch == 1 && gemm->epilogue == GemmEpilogue::kNone && !gemm->addend &&
           gemm->a.row_stride == 1 && gemm->a.column_stride != 1 &&
           gemm->m * gemm->n * gemm->k >= kLeastWork;
  if (const auto* sums = std::get_if<ReduceCall>(&node.call))
    return sums->kind == ReduceKind::kSum && sums->dims == 1u &&
           sums->x.numel() >= int64_t{1} << 24;
  return false;
}

Access access_of_group(const std::vector<Node>& nodes, const Group& group) {
  Access all;
  for (int n : group.nodes) {
    const Access one = access_of(nodes[static_cast<size_t>(n)]);
    all.reads.insert(all.reads.end(), one.reads.begin(), one.reads.end());
    all.writes.insert(all.writes.end(), one.writes.begin(), one.writes.end());
  }
  return all;
}

}  // namespace

Beside plan_beside(const std::vector<Node>& nodes, const std::vector<Group>& groups) {
  const size_t count = groups.size();
  Beside plan;
  plan.aside.assign(count, false);
  plan.joins.assign(count, false);
  plan.after.resize(count + 1);
  for (const Node& node : nodes)
    if (!(node.device == nodes[0].device)) return plan;
  std::vector<Access> access;
  for (const Group& group : groups) access.push_back(access_of_group(nodes, group));
  std::vector<size_t> place(count, 0);  // in `after`
  for (size_t g = 0; g < count; ++g) {
    const Node& node = nodes[static_cast<size_t>(groups[g].nodes[0])];
    if (groups[g].nodes.size() != 1 || !is_for_weights(node)) continue;
    const Access results{{}, access[g].writes};
    const bool awaited = std::any_of(access.begin() + static_cast<int64_t>(g) + 1, access.end(),
                                     [&](const Access& later) { return conflict(results, later); });
    if (awaited) continue;
    for (size_t e = 0; e < g; ++e)
      if (conflict(access[e], access[g]))
        place[g] = std::max(place[g], plan.aside[e] ? place[e] : e + 1);
    plan.aside[g] = true;
    plan.after[place[g]].push_back(static_cast<int>(g));
    ++plan.count;
  }
  for (size_t g = 0; g < count; ++g)
    for (size_t e = 0; e < g && !plan.aside[g]; ++e)
      if (plan.aside[e] && conflict(access[e], access[g])) plan.joins[g] = true;
  return plan;
}

Stream stream_aside(Device device) {
  constexpr int kUrgent = -5;  // or as much as the device has
  static std::mutex mutex;
  static Stream streams[kMaxDevices];
  std::lock_guard lock(mutex);
  Stream& stream = streams[device.index];
  if (stream.handle == nullptr) stream = backend(device).create_stream(device.index, kUrgent);
  return stream;
}

}  // namespace vt::fuse
