// The first of rows of 16-bit floats that fit shared memory: the next rows come while some are
// looked at.
#pragma once
#include "kernels/cuda/barriers.h"
#include "kernels/cuda/packs.h"
#include "kernels/cuda/topk_rows.h"

namespace vt::cuda {

// Are both 16-bit floats of a word below those of another? NaN is below nothing.
template <class T>
__device__ __forceinline__ bool all_below(uint32_t word, uint32_t bounds) {
  uint32_t below;
  if constexpr (std::is_same_v<T, BFloat16>)
    asm("set.lt.u32.bf16x2 %0, %1, %2;" : "=r"(below) : "r"(word), "r"(bounds));
  else asm("set.lt.u32.f16x2 %0, %1, %2;" : "=r"(below) : "r"(word), "r"(bounds));
  return below == 0xffffffffu;
}

// Note [Rows in turns]
// A block has some teams of threads, each with a row's room in shared memory. A team has its next
// row copied there when it has found the candidates of the last one, and sorts those meanwhile;
// while one team waits the others compute. The rest is as in Note [The first of a held row].
struct TurnsOfRows {
  static constexpr int kTeams = 3, kTeam = 256, kBlock = kTeams * kTeam;
  static constexpr int kMostBytes = 64 << 10;  // of a row
};

template <class T>
__global__ void __launch_bounds__(TurnsOfRows::kBlock, 1)
    topk_ring_kernel(T* values, int64_t* indices, const T* x, int64_t rows, int n, int k) {
  await_earlier();
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  using Key = SortKey<T>;
  constexpr int V = 8, kTeams = TurnsOfRows::kTeams, kTeam = TurnsOfRows::kTeam;
  constexpr int kShare = kTeam / kHeldGroups;  // threads of a group
  extern __shared__ __align__(128) char rooms[];
  __shared__ uint64_t full[kTeams];
  __shared__ Item items[kTeams][kHeldCandidates];
  __shared__ uint32_t maxima[kTeams][kHeldGroups];
  __shared__ int shared[kTeams][kTeam / kWarp], counters[kTeams][2];
  const int number = static_cast<int>(threadIdx.x) / kTeam;
  const Team team{static_cast<int>(threadIdx.x) % kTeam, kTeam, 1 + number};
  const int thread = team.thread, lane = thread % kWarp, packs = n / V;
  const auto row_bytes = static_cast<uint32_t>(n * sizeof(T));
  const uint32_t here = shared_address(&full[number]);
  if (thread == 0) {
    init_barrier(here, 1);
    publish_barriers();
    counters[number][0] = counters[number][1] = 0;
  }
  __syncthreads();
  const auto* room =
      reinterpret_cast<const uint4*>(rooms + static_cast<size_t>(number) * row_bytes);
  auto bring = [&](int64_t row) {
    arrive_expecting(here, row_bytes);
    load_lines(shared_address(room), x + row * n, row_bytes, here);
  };
  const int64_t step = int64_t{gridDim.x} * kTeams;
  int64_t row = int64_t{number} * gridDim.x + blockIdx.x;
  if (thread == 0 && row < rows) bring(row);
  Item* own_items = items[number];
  uint32_t turn = 0;
  for (; row < rows; row += step, turn ^= 1) {
    await_phase(here, turn);
    uint32_t most = Pairs<T>::kLowest;
#pragma unroll 8
    for (int p = thread; p < packs; p += kTeam) {
      const uint4 q = room[p];
      most = Pairs<T>::larger(
          most, Pairs<T>::larger(Pairs<T>::larger(q.x, q.y), Pairs<T>::larger(q.z, q.w)));
    }
    const float2 both = Pairs<T>::unpack(most);
    const float top = warp_reduce<kShare>(fmaxf(both.x, both.y), LargerOp{});
    if (thread % kShare == 0)
      maxima[number][thread / kShare] = ~Key::of(convert<T>(top)) & Key::kMask;
    team.meet();
    int* counter = &counters[number][turn];
    if (thread == 0) counters[number][turn ^ 1] = 0;  // everybody has read it
    const uint32_t kth = kth_of_groups<Key::kBits>(maxima[number], k, lane);
    const T bound = Key::value(~kth & Key::kMask);
    const auto least = convert<float>(bound);
    uint16_t bits;
    memcpy(&bits, &bound, sizeof bits);
    const uint32_t bounds = bits * 0x10001u;
#pragma unroll 4
    for (int p = thread; p < packs; p += kTeam) {
      const uint4 q = room[p];
      auto extreme = Pairs<T>::template extreme<true>;
      if (all_below<T>(extreme(extreme(q.x, q.y), extreme(q.z, q.w)), bounds)) continue;
      Pack<T, V> pack;
      memcpy(&pack, &q, sizeof q);
#pragma unroll
      for (int j = 0; j < V; ++j)
        if (!(convert<float>(pack.v[j]) < least)) {
          const int at = atomicAdd(counter, 1);
          if (at < kHeldCandidates)
            own_items[at] =
                item_of(~Key::of(pack.v[j]) & Key::kMask, static_cast<uint32_t>(p * V + j));
        }
    }
    team.meet();
    int count = *counter;
    if (thread == 0 && row + step < rows) bring(row + step);
    const T* from = x + row * n;
    if (count > kHeldCandidates) {
      take_exactly(team, KeyRow<T, V>{from, n, true}, own_items, k, Key::kBits, shared[number],
                   counter);
      count = k;
    }
    for (int i = thread; i < count; i += kTeam) {
      const int place = place_among(own_items, count, own_items[i]);
      if (place >= k) continue;
      const auto position = static_cast<uint32_t>(own_items[i]);
      const auto key = ~static_cast<uint32_t>(own_items[i] >> 32) & Key::kMask;
      values[row * k + place] = Key::is_exact(key) ? Key::value(key) : from[position];
      indices[row * k + place] = position;
    }
  }
#endif
}

}  // namespace vt::cuda
