// Device side of the signal pads: flags, barriers between the ranks' blocks, and the deadline in
// every wait.
#pragma once
#include "fabric/cuda/pad.h"

namespace vt::fabric {

// Note [Flags between ranks]
// A flag lives in the memory of the rank that polls it. The writer's block first synchronises, so
// that one thread's release covers the stores of all; the reader's block synchronises after one
// thread's acquire. Flags carry epochs that only grow (compared so that wrapping does no harm) and
// that live in device memory, advanced by the kernel itself, so a captured graph can be replayed
// between ordinary calls. Block b of a rank talks to block b of the peers only, so a block never
// waits for one that cannot be resident yet.

// The rank that the calling block works for.
__device__ inline int own_rank(const Clique& clique) { return clique.here[blockIdx.y]; }

__device__ inline void release_store(uint32_t* flag, uint32_t value) {
  asm volatile("fence.acq_rel.sys; st.relaxed.sys.global.u32 [%0], %1;" ::"l"(flag), "r"(value)
               : "memory");
}

__device__ inline uint32_t relaxed_load(const uint32_t* flag) {
  uint32_t value;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
  return value;
}

__device__ inline void system_fence() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }

// First thing in a kernel that may be launched while the one before it on its stream still runs:
// waits until that one has ended and what it wrote can be seen. From then on the next such kernel
// may be launched; no more than two of a stream are on the device at a time. Neither does anything
// for a kernel launched in the ordinary way.
__device__ inline void follow_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

__device__ inline uint64_t now_ns() {
  uint64_t t;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
  return t;
}

__device__ inline void relaxed_store(uint32_t* flag, uint32_t value) {
  asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
}

// The clock and the reasons to leave of one wait, looked at every 256th poll: they cost more than
// a poll of a flag.
// Note [One deadline a failure]
// When one rank has given up, all that is queued is lost, and its kernels leave as soon as they
// have to wait: behind a stuck peer the host waits for one deadline, not for one a queued kernel.
// Only who was late himself, or had waited more than half as long, leaves a record: a rank that
// comes too late waits for nobody, and must be named.
// Note [Looks at the board]
// Reads of the board in host memory take a microsecond each, one after the other: 64 blocks that
// all looked while they waited came 100 us too late. So who waits looks there after a millisecond
// at the soonest, each at another one, and tells the rank's others what there is by its pad.
class Deadline {
 public:
  __device__ Deadline(const Clique& clique, Phase phase, int peer)
      : clique_(clique), phase_(phase), peer_(peer) {}

  // True when it is time to leave; a record for the host has then been written.
  __device__ bool passed() { return passed(peer_); }
  __device__ bool passed(int peer) {
    if (++polls_ % 256 != 0) return false;
    const uint64_t now = now_ns();
    if (start_ == 0) {
      start_ = now;
      look_ = 1 + (blockIdx.x + threadIdx.x / 32 * 5) % kLookEvery;
    }
    const int rank = own_rank(clique_);
    uint32_t* const stopped = &clique_.pads[rank]->stopped.value;
    const bool late = now - start_ > clique_.timeout_ns;
    const auto waited = static_cast<uint32_t>((now - start_) >> 20);  // about milliseconds
    uint32_t reason = relaxed_load(stopped);
    if (reason == kNone && (late || waited >= look_)) {
      look_ = waited + kLookEvery;
      reason = clique_.board->any ? kFailed : clique_.board->abort ? kAborted : kNone;
      if (reason != kNone) relaxed_store(stopped, reason);
    }
    if (late || (reason == kFailed && now - start_ > clique_.timeout_ns / 2)) {
      const uint32_t what = static_cast<uint32_t>(phase_) |
                            static_cast<uint32_t>(clique_.kind) << 8 | blockIdx.x << 16 |
                            static_cast<uint32_t>(peer) << 24;
      const uint32_t waited_ms = static_cast<uint32_t>((now - start_) / 1000000);
      asm volatile("st.relaxed.sys.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(
                       &clique_.board->records[rank][blockIdx.x]),
                   "r"(clique_.pads[rank]->units[blockIdx.x] - 1), "r"(what), "r"(waited_ms),
                   "r"(1u)
                   : "memory");
      __threadfence_system();
      clique_.board->any = 1;
      relaxed_store(stopped, kFailed);
    }
    return late || reason != kNone;
  }

 private:
  enum Reason : uint32_t { kNone, kFailed, kAborted };
  static constexpr uint32_t kLookEvery = 32;  // about milliseconds

  const Clique& clique_;
  Phase phase_;
  int peer_;
  uint32_t polls_ = 0;
  uint32_t look_ = 0;  // when to look at the board
  uint64_t start_ = 0;
};

__device__ inline uint32_t acquire_load(const uint32_t* flag) {
  uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
  return value;
}

// One thread does this for the whole block; waits until `*flag` has reached `epoch`. What was
// released with the flag is there afterwards. False when the peer did not come in time.
__device__ inline bool await_flag(const Clique& clique, const uint32_t* flag, uint32_t epoch,
                                  Phase phase, int peer) {
  Deadline deadline(clique, phase, peer);
  while (static_cast<int32_t>(relaxed_load(flag) - epoch) < 0)
    if (deadline.passed()) return false;
  (void)acquire_load(flag);
  return true;
}

// Note [Barriers at the ends of a kernel]
// Before its first barrier a kernel has written nothing that others read, and what earlier kernels
// of its stream wrote was made visible to the whole system when they ended: the flag needs no fence
// before it.
// After the last barrier it reads nothing, and what later kernels read is fetched anew.

// All blocks of this index in a row, one a rank, meet. What any thread of them wrote before is seen
// by all of them afterwards; at the start of a kernel, what earlier kernels of their streams wrote.
// False, for the whole block, when a peer did not come in time.
__device__ inline bool meet(const Clique& clique, uint32_t epoch, Phase phase) {
  bool here = true;
  __syncthreads();
  const int peer = threadIdx.x, rank = own_rank(clique);
  if (peer < clique.ranks && peer != rank) {
    uint32_t* const flag = &clique.pads[peer]->arrived[blockIdx.x][rank].value;
    if (phase == Phase::kStart) relaxed_store(flag, epoch);
    else release_store(flag, epoch);
    here =
        await_flag(clique, &clique.pads[rank]->arrived[blockIdx.x][peer].value, epoch, phase, peer);
  }
  return __syncthreads_and(here);
}

// At the start of every kernel that waits, by all threads of all blocks: one more has begun.
// Note [Counting kernels] The count is what makes fault records of different ranks comparable. Each
// block has its own, so that no block reads what another writes; those that a small grid leaves out
// are advanced by its first block.
// Note [Epochs are advanced early]
// A kernel ends when all it has stored is where it goes, so what it counts it stores while it waits
// for its peers. If one of them does not come, the counts are wrong, and the reset that has to
// follow zeroes them.
__device__ inline void count_kernel(const Clique& clique) {
  uint32_t* units = clique.pads[own_rank(clique)]->units;
  const auto count = [](uint32_t* unit) {
    asm volatile("red.relaxed.gpu.global.add.u32 [%0], 1;" ::"l"(unit) : "memory");
  };
  if (threadIdx.x == 0) count(units + blockIdx.x);
  if (blockIdx.x == 0)
    for (int b = gridDim.x + threadIdx.x; b < kMaxBlocks; b += blockDim.x) count(units + b);
}

}  // namespace vt::fabric
