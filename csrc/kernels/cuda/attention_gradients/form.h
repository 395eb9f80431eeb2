// What both kernels of attention's gradients are made of: shapes, shared memory, and which block
// works on what.
#pragma once
#include <cuda_runtime.h>

#include "kernels/cuda/attention_gradients/job.h"

namespace vt::cuda::attention_gradients {

enum class Side : uint8_t { kQueries, kKeys };

// kWidth: features. A block keeps 64 rows for each of kGroups groups of warps, and kStages times
// kColumns rows are on their way.
template <class T_, Side kSide_, int kWidth_>
struct Form {
  using T = T_;
  static constexpr Side kSide = kSide_;
  static constexpr bool kQueries = kSide == Side::kQueries;
  static constexpr int kWidth = kWidth_, kGroups = 2;
  static constexpr int kColumns = kQueries && kWidth == 64 ? 128 : 64;
  static constexpr int kStages = kWidth == 64 && kColumns == 64 ? 6 : 3;
  static constexpr int kRows = 64 * kGroups, kThreads = 128 * (kGroups + 1);
  // Left operands of scores stay in registers where there is room.
  static constexpr bool kHeld = !kQueries && kWidth == 64;
  // Sums of the tile before are done before scores take the registers of their left operands.
  static constexpr bool kShort = !kQueries && kWidth == 128;
  // Groups go on by themselves, Note [Ahead]. Else they take turns.
  static constexpr bool kAhead = kWidth == 64;
  static constexpr int kKeptBytes = kRows * kWidth * 2, kTileBytes = kColumns * kWidth * 2;
  static constexpr int kStreamedRowBytes = kQueries ? 0 : kColumns * 8;
  static constexpr int kBarriers = 4 + 2 * kStages;
  static constexpr int kSharedBytes =
      4 * kKeptBytes + kStages * (2 * kTileBytes + kStreamedRowBytes) + kBarriers * 8;
  static_assert(kSharedBytes <= 227 * 1024);
  // Of each thread: the group that brings data gives some to those that compute.
  static constexpr int kProducerRegisters = kShort ? 24 : 40, kRegisters = kShort ? 240 : 232;
  static_assert(kGroups * kRegisters + kProducerRegisters <= 3 * 168);
};

// Addresses in a block's shared memory. Kept rows are there twice: those of the next item come
// while this one is worked on. Rows of 64 features are 128 bytes; further features are a tile of
// their own behind it.
template <class F>
struct Memory {
  uint32_t kept, tiles, streamed_rows, barriers;
  __device__ explicit Memory(uint32_t start)
      : kept(start),
        tiles(kept + 4 * F::kKeptBytes),
        streamed_rows(tiles + F::kStages * 2 * F::kTileBytes),
        barriers(streamed_rows + F::kStages * F::kStreamedRowBytes) {}
  // Queries or keys, then gradients of outputs or values.
  __device__ uint32_t kept_at(int buffer) const { return kept + buffer * 2 * F::kKeptBytes; }
  __device__ uint32_t tile_at(int stage) const { return tiles + stage * 2 * F::kTileBytes; }
  // Shifts, then deltas.
  __device__ uint32_t streamed_rows_at(int stage) const {
    return streamed_rows + stage * F::kStreamedRowBytes;
  }

  __device__ uint32_t kept_full(int buffer) const { return barriers + buffer * 8; }
  __device__ uint32_t kept_empty(int buffer) const { return barriers + 16 + buffer * 8; }
  __device__ uint32_t full(int stage) const { return barriers + 32 + stage * 8; }
  __device__ uint32_t empty(int stage) const { return barriers + 32 + (F::kStages + stage) * 8; }
};

// A place in the ring of stages.
template <int kStages>
struct Turn {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void next() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// What a block keeps in a round.
struct Item {
  int batch, head, tile;  // head: of the side that is kept
  bool none;
  __device__ Item(const Job& job, bool of_queries, int round) {
    const Slot slot =
        slot_of(job.order, static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x), round);
    const int heads = of_queries ? job.heads : job.kv_heads;
    none = slot.none;
    batch = slot.head / heads;
    head = slot.head - batch * heads;
    // Late queries see the most keys, early keys are seen the most.
    tile = of_queries && job.causal ? job.order.tiles - 1 - slot.tile : slot.tile;
  }
  __device__ static bool any(const Job& job, int round) {
    return round * static_cast<int>(gridDim.x) < job.order.items;
  }
};

// The streamed tiles that rows from `first` on see, `count` rows: of each head.
template <class F>
struct Range {
  int begin, end;
  __device__ Range(const Job& job, int first, int count) {
    if constexpr (F::kQueries) {
      const int limit = job.causal ? min(first + count, job.keys) : job.keys;
      begin = 0;
      end = first >= job.queries ? 0 : (limit + F::kColumns - 1) / F::kColumns;
    } else {
      end = (job.queries + F::kColumns - 1) / F::kColumns;
      begin = first >= job.keys ? end : job.causal ? min(first / F::kColumns, end) : 0;
    }
  }
  __device__ int count() const { return end - begin; }
};

}  // namespace vt::cuda::attention_gradients
