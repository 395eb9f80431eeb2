// What units between GPUs take, from a few numbers: bytes over the busiest link, starts, copies.
// Where no table says more, the choice among algorithms goes by it.
#pragma once
#include "collectives/cuda/site.h"

namespace vt::collectives::gpu::link_model {

// Note [What units between GPUs take]
// Microseconds = a start + the bytes that cross the link of the busiest GPU, one way, by what the
// way's accesses reach; each copy costs some more. The numbers are those of two H200s (18 links of
// NVLink 4, 390 GB/s each way), which the model fits within 3% from 64 KiB to 4 GiB
// (benchmarks/LOG.md). No more than two have been measured: for those only counts change, of bytes,
// ranks and copies, as if all pairs were linked alike. `bench --tune` replaces it by what a machine
// does, and only tables name lines, whose wholeness has to be tried.

// Our fastest way for an all_reduce over several GPUs.
Algorithm all_reduce(const Site& site, const Unit& unit);

// For the other kinds, over several GPUs: are packets faster than meetings, and copy engines
// clearly faster than a kernel?
bool packets_pay(const Site& site, const Unit& unit);
bool copies_pay(const Site& site, const Unit& unit);

}  // namespace vt::collectives::gpu::link_model
