// One-shot all-reduce by lines of 128 bytes with one flag each. No barrier: see packet.cuh, and
// Note [Packet mailboxes] there for why a mailbox can be written again.
#pragma once
#include "collectives/cuda/algorithms/line.h"
#include "collectives/cuda/vector.cuh"
#include "fabric/cuda/signal.cuh"

namespace vt::collectives::gpu::lines {

// Note [Whole lines]
// Eight threads of a warp write a line with one instruction, 16 bytes each, and read it with one.
// The programming model promises nothing about more than one thread's access, but on NVLink and in
// the L2 cache such a line travels and arrives as one: whoever sees the flag, which is the last
// word, sees all of it. NVIDIA's own library relies on the same on these links.

__device__ inline void send(uint64_t* to, uint64_t a, uint64_t b) {
  asm volatile("st.volatile.global.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(a), "l"(b) : "memory");
}

__device__ inline void load(const uint64_t* from, uint64_t& a, uint64_t& b) {
  asm volatile("ld.volatile.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(a), "=l"(b)
               : "l"(from)
               : "memory");
}

template <class T, class Op, int kLanes>
__global__ void __launch_bounds__(kMaxThreads) all_reduce(const __grid_constant__ Args args) {
  constexpr uint32_t kAll = 0xffffffffu;
  constexpr int kWords = kLineBytes / 8, kLinesPerWarp = 4;
  const Clique& clique = args.clique;
  const int rank = fabric::own_rank(clique), ranks = clique.ranks;
  const void* const in = args.in[rank];
  void* const out = args.out[rank];
  fabric::follow_previous_kernel();
  fabric::count_kernel(clique);
  uint32_t& done = clique.pads[rank]->packet_epoch[blockIdx.x].value;
  const uint32_t epoch = done + 1;
  const int64_t first = blockIdx.x * args.per_block;
  const int64_t mine = min(args.per_block, args.units - first);
  // [ranks][stretch] of this epoch in everybody's mailbox, at the place of this block
  const int64_t half = (epoch & 1) * ranks * args.stretch + blockIdx.x * args.room;
  const int lane = threadIdx.x % 32, word = lane % 8 * 2;  // of the line
  const bool has_flag = word + 1 == kWords;
  const int64_t start = threadIdx.x / 32 * kLinesPerWarp, step = blockDim.x / 32 * kLinesPerWarp;
  const auto own = [&](int64_t line, int which) {
    return load_word<uint64_t, T>(in, (first + line) * kWords + word + which, args.count);
  };

  for (int64_t base = start; base < mine; base += step) {
    const int64_t line = base + lane / 8;
    const uint64_t a = own(line, 0), b = has_flag ? epoch : own(line, 1);
    __syncwarp();  // one instruction for the whole line
    if (line < mine)
      for (int k = 1; k < ranks; ++k) {
        const int peer = rank + k < ranks ? rank + k : rank + k - ranks;
        send(args.boxes[peer][half + rank * args.stretch + line].words + word, a, b);
      }
  }
  __syncthreads();  // all have read it
  if (threadIdx.x == 0) done = epoch;

  bool here = true;  // the same in all threads of a warp
  for (int64_t base = start; base < mine && here; base += step) {
    const int64_t line = min(base + lane / 8, mine - 1);
    const Line* const from = args.boxes[rank] + half + line;
    const uint64_t own_a = own(line, 0), own_b = has_flag ? 0 : own(line, 1);
    uint64_t a[kLanes], b[kLanes];
    uint32_t missing = ((1u << ranks) - 1) & ~(1u << rank);
    fabric::Deadline deadline(clique, fabric::Phase::kPacket, 0);
    while (true) {
      __syncwarp();
#pragma unroll
      for (int p = 0; p < kLanes; ++p)
        if (missing >> p & 1) load(from[p * args.stretch].words + word, a[p], b[p]);
#pragma unroll
      for (int p = 0; p < kLanes; ++p)
        if (missing >> p & 1 && !__any_sync(kAll, has_flag && b[p] != epoch)) missing &= ~(1u << p);
      if (missing == 0) break;
      here = !__any_sync(kAll, deadline.passed(__ffs(static_cast<int>(missing)) - 1));
      if (!here) break;
    }
    if (!here) break;
    Lanes<T, Op, 8> low, high;
    low.set(rank == 0 ? own_a : a[0]);
    high.set(rank == 0 ? own_b : b[0]);
#pragma unroll
    for (int p = 1; p < kLanes; ++p)
      if (p < ranks) {
        low.combine(p == rank ? own_a : a[p]);
        high.combine(p == rank ? own_b : b[p]);
      }
    if (base + lane / 8 >= mine) continue;
    const int64_t at = (first + line) * kWords + word;
    store_word<uint64_t, T>(out, at, args.count, low.template get<uint64_t>(args.average, ranks));
    if (!has_flag)
      store_word<uint64_t, T>(out, at + 1, args.count,
                              high.template get<uint64_t>(args.average, ranks));
  }
}

}  // namespace vt::collectives::gpu::lines
