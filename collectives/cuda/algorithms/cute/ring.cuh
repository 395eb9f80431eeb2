// All-reduce along a chain of neighbours, with CuTe's bulk copies (TMA): a few blocks, in which one
// thread a direction keeps a link busy while the others add.
#pragma once
#include <cutlass/arch/barrier.h>
#include <cute/arch/copy_sm90_tma.hpp>
#include <cute/tensor.hpp>

#include "collectives/cuda/algorithms/ring.h"
#include "collectives/cuda/vector.cuh"
#include "fabric/cuda/signal.cuh"

namespace vt::collectives::gpu::ring {

// Note [A ring that keeps the order of the ranks]
// A textbook ring starts the sum of each slice at another rank, so the order of the terms, and with
// it the last bit, depends on where an element lies. Here every tile starts at rank 0: it sends its
// input to rank 1, which adds its own and sends the partial sum on, up to the last rank. That one
// rounds once, and the result goes back down the same chain. Each link carries the partial sums one
// way and the results the other, at the same time, tile after tile. On two ranks that is all a ring
// could do. On more it costs: links to middle ranks carry a whole buffer each way where a ring
// carries 2(n-1)/n of one in all, and partial sums of 16-bit types travel as float, for the bits
// must not depend on the algorithm. Only neighbours talk, so it is the choice where not all pairs
// are linked.

// Block b works with block b of its neighbours on every gridDim-th tile. Tile k of a block is in
// slot k % kSlots of the receiver, which says how many it has used.

using Barrier = cutlass::arch::ClusterTransactionBarrier;

struct Barriers {
  Barrier* full;      // [stages] loaded
  Barrier* ready;     // [stages] added
  Barrier* empty;     // [stages] sent
  Barrier* returned;  // [kReturnStages] a result to pass on is loaded
};

// Waits in the block end when one of them gave up on a peer.
__device__ inline bool wait(const Barrier& barrier, int phase, const volatile int* stop) {
  while (!barrier.try_wait(phase))
    if (*stop) return false;
  return true;
}

// Whether all adding threads say yes: some may see a tile come where others already see `stop`, and
// who goes on alone would wait for ever at their next barrier.
__device__ inline bool agree(bool here) {
  uint32_t all;
  __syncwarp();
  asm volatile(
      "{ .reg .pred p, q; setp.ne.u32 p, %1, 0;"
      " barrier.cta.red.and.pred q, 1, %2, p; selp.u32 %0, 1, 0, q; }"
      : "=r"(all)
      : "r"(static_cast<uint32_t>(here)), "n"(kSumThreads)
      : "memory");
  return all != 0;
}

// All but the last kLeft groups of bulk stores of this thread are where they go.
template <int kLeft>
__device__ inline void bulk_wait_complete() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kLeft) : "memory");
}
// What this thread has seen is seen by bulk copies that it starts.
__device__ inline void fence_to_bulk() { asm volatile("fence.proxy.async;" ::: "memory"); }

template <class T, class Op>
class Chain {
  using Acc = compute_t<T>;
  static constexpr int kElements = kTileBytes / sizeof(Acc);  // of a tile
  static constexpr int kOwnBytes = kElements * sizeof(T);
  static constexpr int kPerWord = 16 / sizeof(T);
  static constexpr int kGroups = kElements / kPerWord / kSumThreads;  // 16-byte words a thread
  static_assert(kGroups * kPerWord * kSumThreads == kElements);
  static constexpr int kBatch = 8;      // tiles a flag
  static_assert(kSlots >= 3 * kBatch);  // flags come a batch late

 public:
  __device__ Chain(const Args& args, char* shared, Barriers barriers, volatile int* stop)
      : args_(args),
        clique_(args.buffers.clique),
        rank_(fabric::own_rank(clique_)),
        last_(clique_.ranks - 1),
        before_(clique_.pads[rank_]->ring_epoch[blockIdx.x].value),
        barriers_(barriers),
        shared_(shared),
        stop_(stop) {
    const int64_t tiles = (args.bytes + kOwnBytes - 1) / kOwnBytes;
    mine_ = static_cast<int>((tiles - blockIdx.x + gridDim.x - 1) / gridDim.x);
  }

  __device__ int tiles() const { return mine_; }
  __device__ uint32_t before() const { return before_; }
  __device__ bool returns() const { return rank_ > 0 && rank_ < last_; }

  // One thread: brings own input and the partial sum of the previous rank.
  __device__ void load() const {
    int loaded = 0, known = 0;  // tiles that the previous rank has handed over for sure
    for (; loaded < mine_; ++loaded) {
      const int k = loaded, stage = k % args_.stages, round = k / args_.stages;
      if (round > 0 && !wait(barriers_.empty[stage], (round - 1) & 1, stop_)) break;
      if (rank_ > 0 && k >= known && !arrived(rank_ - 1, k, known)) break;
      const int own = bytes(k), part = rank_ > 0 ? sum_bytes(rank_ - 1, k) : 0;
      barriers_.full[stage].arrive_and_expect_tx(own + part);
      cute::SM90_BULK_COPY_G2S::copy(tile(args_.buffers.in[rank_], k), raw(barriers_.full[stage]),
                                     own_stage(stage), own);
      if (part > 0)
        cute::SM90_BULK_COPY_G2S::copy(slot(rank_, k), raw(barriers_.full[stage]), sum_stage(stage),
                                       part);
    }
    // Nothing may be on its way into shared memory when the block ends.
    for (int k = max(0, loaded - args_.stages); k < loaded; ++k)
      while (!barriers_.full[k % args_.stages].try_wait(k / args_.stages & 1)) {}
  }

  // kSumThreads threads: adds own input to the partial sum; the last rank rounds.
  __device__ void add() const {
    if (rank_ == 0) return;  // its input is the partial sum
    for (int k = 0; k < mine_; ++k) {
      const int stage = k % args_.stages;
      if (!agree(wait(barriers_.full[stage], k / args_.stages & 1, stop_))) return;
      // own: (kElements) of T; sums: (kElements) of T from rank 0, of Acc from the others
      auto own = cute::make_tensor(cute::make_smem_ptr(reinterpret_cast<uint4*>(own_stage(stage))),
                                   cute::make_layout(cute::Int<kElements / kPerWord>{}));
      Lanes<T, Op, 16> sum[kGroups];
#pragma unroll
      for (int j = 0; j < kGroups; ++j) {
        const int word = threadIdx.x + j * kSumThreads;
        if (rank_ == 1) {
          sum[j].set(reinterpret_cast<const uint4*>(sum_stage(stage))[word]);
        } else {
          memcpy(sum[j].lane, sum_stage(stage) + word * kPerWord * sizeof(Acc),
                 kPerWord * sizeof(Acc));
        }
        sum[j].combine(static_cast<uint4>(own(word)));
      }
      if (rank_ == last_) {
#pragma unroll
        for (int j = 0; j < kGroups; ++j)
          own(threadIdx.x + j * kSumThreads) =
              sum[j].template get<uint4>(args_.buffers.average, clique_.ranks);
      } else {
        // All have read before one writes: what comes from rank 0 lies closer together.
        cutlass::arch::NamedBarrier::sync(kSumThreads, 1);
#pragma unroll
        for (int j = 0; j < kGroups; ++j)
          memcpy(sum_stage(stage) + (threadIdx.x + j * kSumThreads) * kPerWord * sizeof(Acc),
                 sum[j].lane, kPerWord * sizeof(Acc));
      }
      cute::tma_store_fence();
      barriers_.ready[stage].arrive();
    }
  }

  // One thread: passes sums on to the next rank, or results to memory and to the previous rank.
  __device__ void send() const {
    const Barrier* const source = rank_ == 0 ? barriers_.full : barriers_.ready;
    int room = kSlots;
    for (int k = 0; k < mine_; ++k) {
      const int stage = k % args_.stages;
      if (!wait(source[stage], k / args_.stages & 1, stop_) ||
          (rank_ < last_ && k >= room && !has_room(k, room))) {
        cute::tma_store_wait<0>();  // nothing may read shared memory when the block ends
        return;
      }
      if (rank_ < last_) {
        cute::SM90_BULK_COPY_S2G::copy(rank_ == 0 ? own_stage(stage) : sum_stage(stage),
                                       slot(rank_ + 1, k), sum_bytes(rank_, k));
      } else {
        cute::SM90_BULK_COPY_S2G::copy(own_stage(stage), tile(args_.buffers.out[rank_], k),
                                       bytes(k));
        cute::SM90_BULK_COPY_S2G::copy(own_stage(stage), tile(args_.buffers.out[rank_ - 1], k),
                                       bytes(k));
      }
      cute::tma_store_arrive();
      // Half of the stages may be on their way out; the one before them has been read.
      const int depth = args_.stages >= 12 ? 6 : args_.stages >= 6 ? 3 : 2;
      if (depth == 6) cute::tma_store_wait<6>();
      else if (depth == 3) cute::tma_store_wait<3>();
      else cute::tma_store_wait<2>();
      if (k >= depth) barriers_.empty[(k - depth) % args_.stages].arrive();
      if (k % kBatch != kBatch - 1 && k != mine_ - 1) continue;
      // The tiles' loads are over, which nothing has to be ordered with.
      if (rank_ > 0)
        fabric::relaxed_store(&clique_.pads[rank_ - 1]->consumed[blockIdx.x][rank_].value,
                              before_ + k + 1);
      if (k == mine_ - 1) {
        bulk_wait_complete<0>();
        pass_on(mine_);
      } else if (k >= kBatch) {  // waiting for the batch that has just left would empty the link
        bulk_wait_complete<kBatch>();
        pass_on(k + 1 - kBatch);
      }
    }
    // The loader waits for no stage any more.
  }

  // One thread of a rank in the middle: passes results, which the next rank has written into our
  // output, to the previous rank.
  __device__ void give_back() const {
    int loaded = 0, known = 0;
    for (int k = 0; k < mine_; ++k) {
      for (; loaded < mine_ && loaded < k + kReturnStages; ++loaded) {
        if (loaded >= known && loaded > k) break;
        if (loaded >= known && !arrived(rank_ + 1, loaded, known)) return;
        const int stage = loaded % kReturnStages;
        cute::tma_store_wait<0>();  // what was there has been read
        barriers_.returned[stage].arrive_and_expect_tx(bytes(loaded));
        cute::SM90_BULK_COPY_G2S::copy(tile(args_.buffers.out[rank_], loaded),
                                       raw(barriers_.returned[stage]), return_stage(stage),
                                       bytes(loaded));
      }
      const int stage = k % kReturnStages;
      while (!barriers_.returned[stage].try_wait(k / kReturnStages & 1)) {}
      cute::SM90_BULK_COPY_S2G::copy(return_stage(stage), tile(args_.buffers.out[rank_ - 1], k),
                                     bytes(k));
      cute::tma_store_arrive();
      if (rank_ > 1 && (k % kBatch == kBatch - 1 || k == mine_ - 1)) {
        bulk_wait_complete<0>();
        hand(rank_ - 1, k + 1);
      }
    }
    bulk_wait_complete<0>();
  }

 private:
  // Tile k of the block in a buffer, and how much of it there is.
  __device__ int64_t offset(int k) const {
    return (int64_t{blockIdx.x} + int64_t{k} * gridDim.x) * kOwnBytes;
  }
  __device__ int bytes(int k) const {
    return static_cast<int>(min(int64_t{kOwnBytes}, args_.bytes - offset(k)));
  }
  __device__ const char* tile(const void* buffer, int k) const {
    return static_cast<const char*>(buffer) + offset(k);
  }
  __device__ char* tile(void* buffer, int k) const {
    return static_cast<char*>(buffer) + offset(k);
  }
  // What `rank` sends of tile k: rank 0 its input as it is.
  __device__ int sum_bytes(int rank, int k) const {
    return rank == 0 ? bytes(k)
                     : bytes(k) / static_cast<int>(sizeof(T)) * static_cast<int>(sizeof(Acc));
  }
  __device__ char* slot(int rank, int k) const {
    // (kTileBytes, kSlots, blocks)
    const auto layout = cute::make_layout(cute::make_shape(
        cute::Int<kTileBytes>{}, cute::Int<kSlots>{}, static_cast<int>(gridDim.x)));
    return args_.scratch[rank] + layout(0, k % kSlots, static_cast<int>(blockIdx.x));
  }
  __device__ char* own_stage(int stage) const { return shared_ + stage * args_.stage_bytes; }
  __device__ char* sum_stage(int stage) const { return own_stage(stage) + kOwnBytes; }
  __device__ char* return_stage(int stage) const {
    return shared_ + args_.stages * args_.stage_bytes + stage * kTileBytes;
  }
  __device__ static uint64_t* raw(const Barrier& barrier) {
    return reinterpret_cast<uint64_t*>(const_cast<Barrier*>(&barrier));
  }

  __device__ const uint32_t* handed(int from) const {
    return &clique_.pads[rank_]->handed[blockIdx.x][from].value;
  }
  // Waits for tile k of a neighbour, and looks how many more there are.
  __device__ bool arrived(int from, int k, int& known) const {
    if (!fabric::await_flag(clique_, handed(from), before_ + k + 1, fabric::Phase::kChunk, from)) {
      *stop_ = 1;
      return false;
    }
    known = static_cast<int>(fabric::acquire_load(handed(from)) - before_);
    fence_to_bulk();
    return true;
  }
  // Waits until the next rank has used so many tiles that there is a slot for tile k.
  __device__ bool has_room(int k, int& room) const {
    const uint32_t* const flag = &clique_.pads[rank_]->consumed[blockIdx.x][rank_ + 1].value;
    if (!fabric::await_flag(clique_, flag, before_ + k + 1 - kSlots, fabric::Phase::kSpace,
                            rank_ + 1)) {
      *stop_ = 1;
      return false;
    }
    room = static_cast<int>(fabric::acquire_load(flag) - before_) + kSlots;
    return true;
  }
  // `count` tiles are where they have been sent to.
  __device__ void pass_on(int count) const {
    if (rank_ < last_) hand(rank_ + 1, count);
    else if (rank_ > 1) hand(rank_ - 1, count);
  }
  __device__ void hand(int to, int count) const {
    fabric::release_store(&clique_.pads[to]->handed[blockIdx.x][rank_].value, before_ + count);
  }

  const Args& args_;
  const Clique& clique_;
  int rank_, last_;
  uint32_t before_;
  Barriers barriers_;
  char* shared_;
  volatile int* stop_;
  int mine_;
};

template <class T, class Op>
__global__ void __launch_bounds__(kThreads) all_reduce(const __grid_constant__ Args args) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  extern __shared__ __align__(1024) char shared[];
  __shared__ int stop;
  const Clique& clique = args.buffers.clique;
  fabric::Pad& pad = *clique.pads[fabric::own_rank(clique)];
  Barrier* const first = reinterpret_cast<Barrier*>(shared);
  const Barriers barriers{first, first + args.stages, first + 2 * args.stages,
                          first + 3 * args.stages};
  if (threadIdx.x == 0) {
    stop = 0;
    for (int i = 0; i < args.stages; ++i) {
      barriers.full[i].init(1);
      barriers.ready[i].init(kSumThreads);
      barriers.empty[i].init(1);
    }
    for (int i = 0; i < kReturnStages; ++i) barriers.returned[i].init(1);
    cutlass::arch::fence_barrier_init();
  }
  const uint32_t passed = pad.barrier_epoch[blockIdx.x].value;
  fabric::count_kernel(clique);
  __syncthreads();
  const Chain<T, Op> chain(args, shared + 1024, barriers, &stop);
  const int warp = threadIdx.x / 32 - kSumThreads / 32;
  const bool leads = threadIdx.x % 32 == 0;
  if (warp < 0) chain.add();
  else if (leads && warp == 0) chain.load();
  else if (leads && warp == 1) chain.send();
  else if (leads && warp == 2 && chain.returns()) chain.give_back();
  __syncthreads();
  if (stop) return;
  if (!fabric::meet(clique, passed + 1, fabric::Phase::kEnd)) return;
  if (threadIdx.x == 0) {
    pad.barrier_epoch[blockIdx.x].value = passed + 1;
    pad.ring_epoch[blockIdx.x].value = chain.before() + chain.tiles();
  }
#endif
}

template <class T>
const void* choose(ReduceOp op) {
  switch (op) {
    case ReduceOp::kProd: return reinterpret_cast<const void*>(&all_reduce<T, Prod>);
    case ReduceOp::kMin: return reinterpret_cast<const void*>(&all_reduce<T, Min>);
    case ReduceOp::kMax: return reinterpret_cast<const void*>(&all_reduce<T, Max>);
    default: return reinterpret_cast<const void*>(&all_reduce<T, Sum>);
  }
}

}  // namespace vt::collectives::gpu::ring
