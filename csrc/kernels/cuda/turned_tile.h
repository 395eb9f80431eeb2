// A square tile of a matrix that is written along its lines and read across them, through shared
// memory.
//
// Note [Turned tiles]
// A line of the tile is 128 bytes, so that both sides move whole lines of memory, 16 bytes a
// thread. The 16-byte chunks of line c lie in another order than those of the lines V further on:
// then neither the threads that store a line nor those that read V elements across lines, for
// which they take a word of each, share banks.
#pragma once
#include "kernels/cuda/launch.h"

namespace vt::cuda {

template <class T>
class TurnedTile {
 public:
  static constexpr int V = 16 / sizeof(T), kChunks = 8, kSide = kChunks * V;
  static constexpr int kRows =
      sizeof(T) < 4 ? 4 / sizeof(T) : 1;                  // rows that a thread reads at once
  static constexpr int kUnits = kSide / kRows * kChunks;  // of kRows packs each
  static constexpr int kPacks = kSide * kChunks;

  // Pack number `chunk` of line `line`.
  __device__ __forceinline__ void put(int line, int chunk, const Pack<T, V>& pack) {
    packs_[line][chunk ^ (line / V % kChunks)] = pack;
  }
  // The elements of the lines from chunk * V on at places from kRows * group on: a pack a place.
  __device__ __forceinline__ void get(int group, int chunk, Pack<T, V> (&across)[kRows]) const {
    using Word = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
    const int place = group * kRows;
    Word words[V];  // of each line
#pragma unroll
    for (int j = 0; j < V; ++j)
      words[j] = reinterpret_cast<const Word*>(
          &packs_[chunk * V + j][place / V ^ chunk])[place % V / kRows];
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      alignas(16) Word turned[16 / sizeof(Word)];
#pragma unroll
      for (int j = 0; j < static_cast<int>(16 / sizeof(Word)); ++j) {
        if constexpr (sizeof(T) == 1) {
          const unsigned pick = k | (4 + k) << 4;
          turned[j] = __byte_perm(__byte_perm(words[4 * j], words[4 * j + 1], pick),
                                  __byte_perm(words[4 * j + 2], words[4 * j + 3], pick), 0x5410);
        } else if constexpr (sizeof(T) == 2) {
          turned[j] = __byte_perm(words[2 * j], words[2 * j + 1], k == 0 ? 0x5410 : 0x7632);
        } else {
          turned[j] = words[j];
        }
      }
      across[k] = *reinterpret_cast<const Pack<T, V>*>(turned);
    }
  }

 private:
  Pack<T, V> packs_[kSide][kChunks];
};

}  // namespace vt::cuda
