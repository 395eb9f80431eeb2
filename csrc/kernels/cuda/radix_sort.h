// A stable sort of numbered keys, by least significant digit first. The same input gives the same
// order in every run.
#pragma once
#include "kernels/cuda/launch.h"

namespace vt::cuda {

// Keys and the positions they came from. Each pass reads one pair of arrays and writes the other.
template <class K>
class RadixSort {
 public:
  // For up to 2^32 - 1 keys.
  RadixSort(const Queue& queue, int64_t count);

  int64_t count() const { return count_; }
  K* keys() { return keys_[now_]; }  // to be filled before a sort; sorted after it
  uint32_t* positions() { return positions_[now_]; }

  // Are positions that the caller fills as good as those that the sort would? Where there are many
  // keys it would fill them itself.
  bool wants_numbers() const { return count_ >= kMany; }

  // Stable, by the lowest `bits` (at least 1) bits of the keys. `numbered`: positions are filled
  // too; else they are 0, 1, 2, ...
  void sort(int bits, bool numbered);

 private:
  static constexpr int64_t kMany = int64_t{1} << 20;  // then the sort is sort_many()

  const Queue& queue_;
  int64_t count_;
  Scratch<K> key_memory_;
  Scratch<uint32_t> position_memory_, digit_memory_;
  K* keys_[2];
  uint32_t* positions_[2];
  int now_ = 0;
};

// The same for many keys, from keys[0] and positions[0]; true: the result is in [1], else in [0].
template <class K>
bool sort_many(const Queue& queue, K* (&keys)[2], uint32_t* (&positions)[2], int64_t count,
               int bits, bool numbered);

// out[i] = in[0] + ... + in[i - 1] for i in [0, count]: out has one element more. out may be in.
void exclusive_scan(const Queue& queue, uint32_t* out, const uint32_t* in, int64_t count);

}  // namespace vt::cuda
