// All-reduce along a chain of neighbours: what the host knows of it.
#pragma once
#include "collectives/cuda/algorithms/direct.h"

namespace vt::collectives::gpu::ring {

inline constexpr int kSumThreads = 256;                // that add
inline constexpr int kThreads = kSumThreads + 3 * 32;  // and a warp each to load, send and return
inline constexpr int kSlots = 32;                      // tiles that a block has room for
inline constexpr int kTileBytes = 16 << 10;            // in the type that sums are taken in
inline constexpr int kReturnStages = 4;

struct Args {
  direct::Args buffers;
  char* scratch[kMaxCudaRanks];  // [blocks][kSlots][kTileBytes]
  int64_t bytes;                 // of the buffer, a multiple of 16
  int stages;                    // tiles in shared memory
  int stage_bytes;               // for one of them: own input, and the partial sum
};

inline constexpr size_t kSharedBytes = 200 << 10;  // of a block, at most
inline constexpr size_t kBarrierBytes = 1024;      // of them, in front

// "" or why this build has no ring.
const char* unavailable();
// null then.
const void* float_kernel(DType dtype, ReduceOp op, int ranks);
const void* integer_kernel(DType dtype, ReduceOp op, int ranks);

bool suits(const Site& site, const Unit& unit);
void run(Site& site, const Unit& unit, const Plan& plan);
void for_each_kernel(void (*f)(const void* kernel));

inline constexpr AlgorithmEntry kAllReduce{Kind::kAllReduce, Algorithm::kRing, suits, run,
                                           for_each_kernel};

}  // namespace vt::collectives::gpu::ring
