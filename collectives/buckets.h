// How flat gradients are cut into buckets: contiguous ranges that are reduced as one, in the order
// in which backward is expected to fill them. Knows sizes and offsets, no tensors.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace vt::collectives {

// One flat gradient: where its parameters lie, and what their numbers are in the whole model.
struct ArenaLayout {
  size_t item_size = 4;          // bytes an element
  int64_t numel = 0;             // elements, gaps included
  std::vector<int64_t> offsets;  // of each parameter, in elements, ascending
  std::vector<int> parameters;   // number of each in order of registration, over all arenas
};

struct Bucket {
  int arena = 0;
  int64_t begin = 0, end = 0;   // elements of the arena
  std::vector<int> parameters;  // by number
};

struct BucketSizes {
  int64_t first = 1 << 20;  // bytes: small, so that the first reduction starts early
  int64_t rest = 32 << 20;
};

// Last registered parameters first, since backward reaches them first. Every element of every arena
// is in one bucket; a parameter is never cut.
std::vector<Bucket> plan_buckets(const std::vector<ArenaLayout>& arenas, BucketSizes sizes);

}  // namespace vt::collectives
