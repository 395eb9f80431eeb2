// What calls between GPUs take, from a few numbers: bytes over the busiest link, starts, copies.
// Where no table says more, the choice among algorithms goes by it.
#pragma once
#include "collectives/engine.h"

namespace vt::collectives {

// Note [What calls between GPUs take]
// Microseconds = a start + the bytes that cross the link of the busiest GPU, one way, by what the
// way's accesses reach; each copy costs some more. The numbers are those of two H200s (18 links of
// NVLink 4, 390 GB/s each way), which the model fits within 5% from 512 KiB to 4 GiB
// (benchmarks/LOG.md). No more than two have been measured: for those only counts change, of bytes,
// ranks and copies, as if all pairs were linked alike. `bench --tune` replaces it by what a machine
// does, and only tables name lines, whose wholeness has to be tried.
class LinkModel {
 public:
  // So many ranks on each of several GPUs.
  LinkModel(int ranks, int ranks_of_a_device)
      : ranks_(ranks), here_(ranks_of_a_device), others_(ranks - ranks_of_a_device) {}

  // An all_reduce of so many bytes: microseconds by packets, packets2, two_shot, push or
  // copy_engine, and the fastest of these.
  double all_reduce(Algorithm algorithm, size_t bytes) const;
  Algorithm fastest_all_reduce(size_t bytes, bool copy_engines) const;

  // Other kinds, parts of so many bytes: are packets faster than meetings, and copy engines clearly
  // faster than a kernel?
  bool packets_pay(Kind kind, size_t part) const;
  bool copies_pay(Kind kind, size_t part) const;

 private:
  double over_link(Kind kind, double part, bool by_copies) const;
  double copies_of(Kind kind, double part) const;

  double ranks_, here_, others_;  // others: ranks of other devices
};

}  // namespace vt::collectives
