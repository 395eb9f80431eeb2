// The cutting of flat gradients into buckets.
#include "collectives/buckets.h"

#include <algorithm>

namespace vt::collectives {

std::vector<Bucket> plan_buckets(const std::vector<ArenaLayout>& arenas, BucketSizes sizes) {
  // Walk all arenas at once, always taking the parameter that was registered last.
  std::vector<size_t> left;  // by arena: how many of its parameters are not placed yet
  for (const ArenaLayout& arena : arenas) left.push_back(arena.parameters.size());
  std::vector<int> open(arenas.size(), -1);  // by arena: the bucket that is being filled
  std::vector<Bucket> buckets;
  for (;;) {
    int next = -1;
    for (size_t a = 0; a < arenas.size(); ++a) {
      if (left[a] == 0) continue;
      if (next < 0 || arenas[a].parameters[left[a] - 1] > arenas[next].parameters[left[next] - 1])
        next = static_cast<int>(a);
    }
    if (next < 0) break;
    const ArenaLayout& arena = arenas[next];
    const size_t i = --left[next];
    const int64_t end = i + 1 < arena.offsets.size() ? arena.offsets[i + 1] : arena.numel;
    if (open[next] < 0) {
      open[next] = static_cast<int>(buckets.size());
      buckets.push_back({next, end, end, {}});
    }
    Bucket& bucket = buckets[open[next]];
    bucket.begin = arena.offsets[i];
    bucket.parameters.push_back(arena.parameters[i]);
    const int64_t limit = open[next] == 0 ? sizes.first : sizes.rest;
    const int64_t bytes = (bucket.end - bucket.begin) * static_cast<int64_t>(arena.item_size);
    if (bytes >= limit) open[next] = -1;
  }
  // A bucket is complete when the first registered of its parameters has its gradient.
  std::stable_sort(buckets.begin(), buckets.end(), [](const Bucket& a, const Bucket& b) {
    return a.parameters.back() > b.parameters.back();
  });
  return buckets;
}

}  // namespace vt::collectives
