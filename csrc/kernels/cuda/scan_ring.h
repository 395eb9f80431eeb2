// Running sums of long rows that are read once: tiles pass through a ring in shared memory.
#pragma once
#include "kernels/cuda/barriers.h"
#include "kernels/cuda/packs.h"
#include "kernels/cuda/scan_sums.h"

namespace vt::cuda {

// Note [A ring of tiles]
// A block for each multiprocessor. One warp takes tiles and has them copied into the ring, some add
// a tile up as soon as it is there, one learns what comes before it, and the others write its
// running sums. So copies are under way all the time, and no sum waits for the tiles before it.
struct ScanRing {
  static constexpr int kTileBytes = 32 << 10, kStages = 6;
  static constexpr int kSummers = 4, kWriters = 8;  // warps
  static constexpr int kTogether = 4;               // packs of a lane that are summed at once
  static constexpr int kPacks = kTileBytes / 16, kStretch = kPacks / kWriters;
  static constexpr int kBlock = kWarp * (2 + kSummers + kWriters);
  static constexpr size_t kShared = size_t{kTileBytes} * kStages;
  static_assert(kWriters % kSummers == 0 && kStretch % (kWarp * kTogether) == 0);
};

template <class T>
class RingScan {
  static constexpr int V = 16 / sizeof(T), kStages = ScanRing::kStages;
  static constexpr int kWriters = ScanRing::kWriters, kStretch = ScanRing::kStretch;

 public:
  static constexpr int kTile = ScanRing::kPacks * V;  // elements

  struct Shared {
    // Phases of a stage: the tile is there, its sum is, what comes before it is, it is written.
    uint64_t full[kStages], summed[kStages], ready[kStages], empty[kStages];
    int64_t taken[kStages];  // the number of the tile; negative: there is no more
    float stretches[kStages][kWriters], totals[kStages], before[kStages];
  };

  __device__ __forceinline__ RingScan(Shared& shared, char* ring, T* out, const T* x, TileSums sums,
                                      int64_t n)
      : shared_(shared), ring_(ring), out_(out), x_(x), sums_(sums), n_(n) {
    if (threadIdx.x == 0) {
      for (int s = 0; s < kStages; ++s) {
        init_barrier(shared_address(&shared_.full[s]), 1);
        init_barrier(shared_address(&shared_.summed[s]), 1);
        init_barrier(shared_address(&shared_.ready[s]), 1);
        init_barrier(shared_address(&shared_.empty[s]), kWriters);
      }
      publish_barriers();
    }
    __syncthreads();
  }

  // One thread.
  __device__ __forceinline__ void bring() {
    const int64_t all = sums_.rows * sums_.tiles;
    for (;; step()) {
      await_phase(shared_address(&shared_.empty[stage_]), parity_ ^ 1);
      const int64_t number = sums_.take();
      const uint32_t full = shared_address(&shared_.full[stage_]);
      shared_.taken[stage_] = number < all ? number : -1;
      if (number >= all) return arrive(full);
      const Tile tile = tile_of(number);
      const T* from = x_ + tile.first;
      const int whole = tile.left / V * V;
      if (whole < tile.left) {  // what is no whole line
        Pack<T, V> last;
        for (int j = 0; j < V; ++j) last.v[j] = whole + j < tile.left ? from[whole + j] : T(0);
        packs()[whole / V] = last;
      }
      const auto bytes = static_cast<uint32_t>(whole * sizeof(T));
      arrive_expecting(full, bytes);
      if (bytes > 0) load_lines(shared_address(packs()), from, bytes, full);
    }
  }

  // The warps that add tiles up, of which this one is number `summer`.
  __device__ __forceinline__ void sum(int summer, int lane) {
    constexpr int kOwn = kWriters / ScanRing::kSummers, kSteps = kStretch / kWarp;
    for (;; step()) {
      await_phase(shared_address(&shared_.full[stage_]), parity_);
      const int64_t number = shared_.taken[stage_];
      const uint32_t summed = shared_address(&shared_.summed[stage_]);
      if (number < 0) {
        if (summer == 0 && lane == 0) arrive(summed);
        return;
      }
      const Tile tile = tile_of(number);
      const int count = (tile.left + V - 1) / V;
#pragma unroll
      for (int o = 0; o < kOwn; ++o) {
        const int stretch = summer * kOwn + o;
        float parts[4] = {0, 0, 0, 0};  // that do not wait for each other
#pragma unroll
        for (int p = 0; p < kSteps; ++p) {
          const int at = stretch * kStretch + p * kWarp + lane;
          const float sum = sum_of(packs()[at]);
          if (at < count) parts[p % 4] += sum;
        }
        const float sum = warp_reduce((parts[0] + parts[1]) + (parts[2] + parts[3]), AddOp{});
        if (lane == 0) shared_.stretches[stage_][stretch] = sum;
      }
      asm volatile("bar.sync 1, %0;" ::"n"(ScanRing::kSummers * kWarp) : "memory");
      if (summer == 0 && lane == 0) {
        float total = 0;
#pragma unroll
        for (int w = 0; w < kWriters; ++w) total += shared_.stretches[stage_][w];
        TileSums::publish(sums_.tile(tile.row) + tile.number, total);
        shared_.totals[stage_] = total;
        arrive(summed);
      }
    }
  }

  // One warp learns what comes before each tile.
  __device__ __forceinline__ void learn(int lane) {
    SumBefore groups;
    for (;; step()) {
      await_phase(shared_address(&shared_.summed[stage_]), parity_);
      const int64_t number = shared_.taken[stage_];
      const uint32_t ready = shared_address(&shared_.ready[stage_]);
      if (number < 0) {
        if (lane == 0) arrive(ready);
        return;
      }
      const Tile tile = tile_of(number);
      const int group = tile.number / TileSums::kGroup, place = tile.number % TileSums::kGroup;
      const float within =
          TileSums::await(sums_.tile(tile.row) + group * TileSums::kGroup, place, lane);
      if (place == TileSums::kGroup - 1 && lane == 0)
        TileSums::publish(sums_.group(tile.row) + group, within + shared_.totals[stage_]);
      const float before = groups.await(sums_, tile.row, group, lane) + within;
      if (lane == 0) {
        shared_.before[stage_] = before;
        arrive(ready);
      }
    }
  }

  // The warps that write results, of which this one is number `writer`: a stretch of each tile.
  __device__ __forceinline__ void write(int writer, int lane) {
    constexpr int kTogether = ScanRing::kTogether, kRounds = kStretch / (kWarp * kTogether);
    for (;; step()) {
      await_phase(shared_address(&shared_.ready[stage_]), parity_);
      const int64_t number = shared_.taken[stage_];
      if (number < 0) return;
      const Tile tile = tile_of(number);
      float carry = shared_.before[stage_];
#pragma unroll
      for (int w = 0; w < kWriters; ++w)
        if (w < writer) carry += shared_.stretches[stage_][w];
#pragma unroll 1
      for (int round = 0; round < kRounds; ++round) {
        const int begin = writer * kStretch + round * kTogether * kWarp + lane;
        Pack<T, V> own[kTogether];
#pragma unroll
        for (int u = 0; u < kTogether; ++u) own[u] = packs()[begin + u * kWarp];
        if (round == kRounds - 1) {
          __syncwarp();
          if (lane == 0) arrive(shared_address(&shared_.empty[stage_]));
        }
        float starts[kTogether];
        starts_of(own, starts, carry, lane);
#pragma unroll
        for (int u = 0; u < kTogether; ++u) store(own[u], starts[u], tile, (begin + u * kWarp) * V);
      }
    }
  }

 private:
  struct Tile {
    int64_t row, first;  // its first element, from the first of all
    int number, left;    // in the row; elements of the row from there on, or of a whole tile
  };

  __device__ __forceinline__ void step() {
    if (++stage_ == kStages) {
      stage_ = 0;
      parity_ ^= 1;
    }
  }
  __device__ __forceinline__ Tile tile_of(int64_t number) const {
    const int64_t row = number / sums_.tiles;
    const int tile = static_cast<int>(number - row * sums_.tiles);
    const int64_t begin = int64_t{tile} * kTile;
    return {row, row * n_ + begin, tile, n_ - begin < kTile ? static_cast<int>(n_ - begin) : kTile};
  }
  __device__ __forceinline__ Pack<T, V>* packs() const {
    return reinterpret_cast<Pack<T, V>*>(ring_ + stage_ * ScanRing::kTileBytes);
  }
  static __device__ __forceinline__ float sum_of(Pack<T, V> pack) {
    const Pack<float, V> wide = widen<float>(pack);
    float sum = wide.v[0];
#pragma unroll
    for (int j = 1; j < V; ++j) sum += wide.v[j];
    return sum;
  }
  // What comes before each of a lane's packs; carry moves behind the last lane's last one.
  template <int kPacks>
  static __device__ __forceinline__ void starts_of(const Pack<T, V> (&own)[kPacks],
                                                   float (&starts)[kPacks], float& carry,
                                                   int lane) {
#pragma unroll
    for (int u = 0; u < kPacks; ++u) starts[u] = sum_of(own[u]);
#pragma unroll
    for (int d = 1; d < kWarp; d *= 2)
#pragma unroll
      for (float& start : starts) {
        const float other = __shfl_up_sync(0xffffffffu, start, d);
        if (lane >= d) start += other;
      }
#pragma unroll
    for (float& start : starts) {
      const float total = __shfl_sync(0xffffffffu, start, kWarp - 1);
      const float neighbour = __shfl_up_sync(0xffffffffu, start, 1);
      start = carry + (lane > 0 ? neighbour : 0.f);
      carry += total;
    }
  }
  __device__ __forceinline__ void store(Pack<T, V> own, float start, const Tile& tile,
                                        int at) const {
    Pack<float, V> values = widen<float>(own);
    float sum = 0;
#pragma unroll
    for (float& value : values.v) {
      sum += value;
      value = start + sum;
    }
    const Pack<T, V> result = narrow<T>(values);
    T* to = out_ + tile.first + at;
    if (at + V <= tile.left) {
      *reinterpret_cast<Pack<T, V>*>(to) = result;
    } else {
#pragma unroll
      for (int j = 0; j < V; ++j)
        if (at + j < tile.left) to[j] = result.v[j];
    }
  }

  Shared& shared_;
  char* ring_;
  T* out_;
  const T* x_;
  TileSums sums_;
  int64_t n_;
  int stage_ = 0;
  uint32_t parity_ = 0;
};

template <class T>
__global__ void __launch_bounds__(ScanRing::kBlock, 1)
    cumsum_ring_kernel(T* out, const T* x, TileSums sums, int64_t n) {
  await_earlier();
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) char ring[];
  __shared__ typename RingScan<T>::Shared shared;
  RingScan<T> scan(shared, ring, out, x, sums, n);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  constexpr int kFirstWriter = 2 + ScanRing::kSummers;
  if (warp >= kFirstWriter) scan.write(warp - kFirstWriter, lane);
  else if (warp >= 2) scan.sum(warp - 2, lane);
  else if (warp == 1) scan.learn(lane);
  else if (lane == 0) scan.bring();
#endif
}

}  // namespace vt::cuda
