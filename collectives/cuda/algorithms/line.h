// One-shot all-reduce by lines: what the host knows of it. Packets of 128 bytes with one flag, so
// that nearly all of what crosses the link is data.
#pragma once
#include "collectives/cuda/algorithms/mailboxes.h"

namespace vt::collectives::gpu::lines {

// What one warp-wide access carries whole: 15 words of data, then the epoch they belong to.
struct alignas(128) Line {
  uint64_t words[16];
};
inline constexpr int kLineBytes = 120;  // of data

// A mailbox: [2 parities][ranks][blocks][room]
using Args = mailboxes::Args<Line>;

const void* kernel(DType dtype, ReduceOp op, int ranks);
// Each group of types is compiled in a file of its own; null if the type is not in the group.
const void* float_kernel(DType dtype, ReduceOp op, int ranks);
const void* integer_kernel(DType dtype, ReduceOp op, int ranks);

bool suits(const Site& site, const Unit& unit);
void run(Site& site, const Unit& unit, const Plan& plan);
void for_each_kernel(void (*f)(const void* kernel));
size_t mailbox(const Mesh& mesh);

inline constexpr AlgorithmEntry kAllReduce{
    Kind::kAllReduce, Algorithm::kLines, suits, run, for_each_kernel, mailbox};

}  // namespace vt::collectives::gpu::lines
