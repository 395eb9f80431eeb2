// The kernel: two groups of warps multiply tiles in turns, so that one stores its results while the
// other has the tensor cores; one thread fetches for both.
#pragma once
#include "kernels/cuda/gelu/direct/instructions.h"
#include "kernels/cuda/gelu/direct/job.h"
#include "kernels/cuda/launch.h"

namespace vt::cuda::direct {

// Shared memory. A stage is full when all of its bytes have come, and empty when the eight warps
// that read it, four of each block, are done: both blocks write to it.
class Memory {
 public:
  __device__ __forceinline__ explicit Memory(uint32_t raw)
      : base_((raw + kAtom - 1) / kAtom * kAtom) {}
  __device__ __forceinline__ uint32_t left(int stage) const { return base_ + stage * kStageBytes; }
  __device__ __forceinline__ uint32_t right(int stage) const { return left(stage) + kLeftBytes; }
  __device__ __forceinline__ uint32_t full(int stage) const {
    return base_ + kStages * kStageBytes + stage * 8;
  }
  __device__ __forceinline__ uint32_t empty(int stage) const { return full(kStages + stage); }

  __device__ __forceinline__ void init() const {
    for (int stage = 0; stage < kStages; ++stage) {
      init_barrier(full(stage), 1);
      init_barrier(empty(stage), 4 * kBlocks);
    }
    publish_barriers();
  }

 private:
  uint32_t base_;
};

// A block fetches its own rows, and half of the right operand for both: of its columns, or, where
// those are neighbours in memory, of its rows along k.
template <bool kAlongColumns>
__device__ void fetch(const Memory& memory, const Job& job, int rank) {
  int stage = 0;
  uint32_t parity = 1;  // all stages are empty
  for (int pair = blockIdx.x / kBlocks; pair < job.pairs; pair += gridDim.x / kBlocks) {
    const int row = (pair / job.tiles_of_n * kBlocks + rank) * kRows;
    const int column = pair % job.tiles_of_n * kColumns;
#pragma unroll 1
    for (int step = 0; step < job.steps; ++step) {
      const uint32_t full = memory.full(stage);
      const uint32_t half = memory.right(stage) + rank * (kRightBytes / kBlocks);
      await_phase(memory.empty(stage), parity);
      arrive_expecting(full, kStageBytes);
      load_rows(memory.left(stage), job.left, step * kDepth, row, full);
      if constexpr (kAlongColumns)
        load_columns_to_both(half, job.right, step * kDepth + rank * (kDepth / kBlocks),
                             column / 64, full);
      else
        load_groups_to_both(half, job.right, step * kDepth,
                            (column + rank * (kColumns / kBlocks)) / kGroup, full);
      if (++stage == kStages) {
        stage = 0;
        parity ^= 1;
      }
    }
  }
}

template <class Way>
class Multiplier {
 public:
  __device__ __forceinline__ Multiplier(const Memory& memory, const Job& job, int rank)
      : memory_(memory), job_(job), rank_(rank) {}

  __device__ __forceinline__ void run() {
    const int own = threadIdx.x / 128, other = own ^ 1;
    if (own == 1) give_turn(other);  // group 0 begins
    int group = 0;
    for (int pair = blockIdx.x / kBlocks; pair < job_.pairs; pair += gridDim.x / kBlocks) {
      if (group == own) {
        tile(pair, own, other);
      } else {
        step_ += job_.steps;
      }
      group ^= 1;
    }
  }

 private:
  __device__ __forceinline__ void tile(int pair, int own, int other) {
    const Spot spot(job_, pair, rank_, threadIdx.x / 32 % 4, threadIdx.x % 32);
    float upper[kSums], lower[kSums];
    await_turn(own);
#pragma unroll 1
    for (int i = 0; i < job_.steps; ++i, ++step_) {
      const int stage = step_ % kStages;
      await_phase(memory_.full(stage), step_ / kStages & 1);
      hold(upper);
      hold(lower);
      begin_products();
      multiply_stage(upper, lower, stage, i > 0);
      end_products();
      if (i > 0) {
        await_all_but<1>();
        release(step_ - 1);
      }
    }
    give_turn(other);
    Way way(job_, spot);
    await_all_but<0>();
    hold(upper);
    hold(lower);
    release(step_ - 1);
    way.finish(upper, lower);
  }

  __device__ __forceinline__ void multiply_stage(float (&upper)[kSums], float (&lower)[kSums],
                                                 int stage, bool keep) const {
    // Halves of the right operand that lies along its columns: 32 rows of k, 64 columns each.
    constexpr uint32_t kNextColumns = Way::kAlongColumns ? 32 * 128 : 16;
    const uint64_t left = operand(memory_.left(stage), 16);
    const uint64_t right = operand(memory_.right(stage), kNextColumns);
#pragma unroll
    for (int i = 0; i < kDepth / 16; ++i) {  // addresses count in 16 bytes
      const int to =
          Way::kAlongColumns ? (i / 2 * (kRightBytes / kBlocks) + i % 2 * 2048) / 16 : i * 2;
      multiply<Way::kAlongColumns>(upper, left + i * 2, right + to, keep || i > 0);
      multiply<Way::kAlongColumns>(lower, left + 64 * 128 / 16 + i * 2, right + to, keep || i > 0);
    }
  }

  // The stage of that step may be written again, by both blocks.
  __device__ __forceinline__ void release(int step) const {
    const int lane = threadIdx.x % 32;
    if (lane < kBlocks) arrive_at(memory_.empty(step % kStages), lane);
  }

  const Memory& memory_;
  const Job& job_;
  int rank_;
  int step_ = 0;  // of the block's, those of both groups
};

template <class Way>
__global__ void __launch_bounds__(kThreads, 1) product_kernel(const __grid_constant__ Job job) {
#if VT_HAS_WGMMA
  await_earlier();
  extern __shared__ char raw[];
  const Memory memory(shared_address(raw));
  const int rank = static_cast<int>(rank_in_cluster());
  if (threadIdx.x == 0) memory.init();
  __syncwarp();
  meet_cluster();
  if (threadIdx.x >= 2 * 128) {
    give_registers<24>();
    if (threadIdx.x == 2 * 128) fetch<Way::kAlongColumns>(memory, job, rank);
  } else {
    take_registers<240>();
    Multiplier<Way>(memory, job, rank).run();
  }
  __syncwarp();
  meet_cluster();  // neither block ends while the other one writes to it
#endif
}

}  // namespace vt::cuda::direct
