// What the all-reduces through mailboxes have in common on the host's side: each rank writes what
// it has into the others' mailboxes, in units of a few bytes, and block b reads what the peers'
// blocks b have written.
#pragma once
#include "collectives/cuda/algorithm.h"

namespace vt::collectives::gpu::mailboxes {

// The ranks' own buffers, and everybody's mailbox, by rank. Each kernel says what a mailbox holds.
template <class Box>
struct Args {
  Clique clique;
  const void* in[kMaxCudaRanks];
  void* out[kMaxCudaRanks];
  Box* boxes[kMaxCudaRanks];
  int64_t count;      // elements
  int64_t units;      // that the elements fill
  int64_t per_block;  // units; none has none
  int64_t room;       // in a mailbox: units of one block from one rank
  int64_t stretch;    // and of all blocks from one rank
  bool average;
};

// How a buffer is cut.
struct Cut {
  Algorithm algorithm;
  size_t bytes;     // of the buffer in a unit
  int lanes;        // threads for one
  int64_t stretch;  // units that a mailbox has room for, all blocks together
  // Of a block, for as many bytes.
  int (*threads)(const Site& site, size_t bytes);
};

// Units of a stretch for so many bytes: rounding to whole places of a block takes up to one for
// each of them.
constexpr int64_t stretch_of(size_t bytes, size_t bytes_of_unit) {
  return static_cast<int64_t>(bytes / bytes_of_unit) + kMaxBlocks;
}

// Launches the kernel, which takes Args, for one part of the buffers after the other, each as large
// as the mailboxes have room for.
void run(Site& site, const Unit& unit, const Plan& plan, const Cut& cut, const void* kernel);

}  // namespace vt::collectives::gpu::mailboxes
