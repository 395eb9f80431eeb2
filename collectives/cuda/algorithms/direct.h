// Algorithms whose kernels work on all ranks' buffers directly, and those buffers cut into pieces
// that are: the tensors themselves where all devices reach them, else copies in the staging memory.
#pragma once
#include "collectives/cuda/algorithm.h"

namespace vt::collectives::gpu::direct {

// All ranks' buffers, directly reachable.
struct Args {
  Clique clique;
  const void* in[kMaxCudaRanks];
  void* out[kMaxCudaRanks];
  int64_t count;  // elements, or bytes if they only move
  int root;       // broadcast only
  bool average;
};

struct BarrierArgs {
  Clique clique;
  bool spread;  // over several devices
};

// Calls run_piece(args, bytes) with in, out, root and average set, for one piece after the other.
// Between two pieces that are staged all ranks must have met at the end of their kernels.
// For kinds whose input and output are equally large.
template <class RunPiece>
void for_each_piece(Site& site, const Unit& unit, const RunPiece& run_piece) {
  Args args{};
  args.root = unit.call().root;
  args.average = unit.call().op == ReduceOp::kAvg;
  if (!site.options().always_stage && site.reachable(unit)) {
    for (int r = 0; r < site.ranks(); ++r) {
      if (unit.calls[r].input.defined()) args.in[r] = unit.calls[r].input.data();
      args.out[r] = unit.calls[r].output.data();
    }
    return run_piece(args, unit.bytes());
  }
  for (size_t at = 0; at < unit.bytes(); at += site.stage_bytes()) {
    const size_t bytes = std::min(site.stage_bytes(), unit.bytes() - at);
    for (int r = 0; r < site.ranks(); ++r) {
      args.in[r] = args.out[r] = site.stage(r);
      if (unit.calls[r].input.defined())
        site.copy(r, args.out[r], unit.calls[r].input.data<const char>() + at, bytes);
    }
    run_piece(args, bytes);
    for (int r = 0; r < site.ranks(); ++r)
      site.copy(r, unit.calls[r].output.data<char>() + at, args.out[r], bytes);
  }
}

const void* broadcast_kernel();
const void* barrier_kernel();
void run_broadcast(Site& site, const Unit& unit, const Plan& plan);
void run_barrier(Site& site, const Unit& unit, const Plan& plan);
void each_broadcast_kernel(void (*f)(const void* kernel));
void each_barrier_kernel(void (*f)(const void* kernel));

inline constexpr AlgorithmEntry kBroadcast{Kind::kBroadcast, Algorithm::kTwoShot, always,
                                           run_broadcast, each_broadcast_kernel};
inline constexpr AlgorithmEntry kBarrier{Kind::kBarrier, Algorithm::kTwoShot, always, run_barrier,
                                         each_barrier_kernel};

}  // namespace vt::collectives::gpu::direct
