// Dropout of elements that a thread holds, as kernels/cuda/dropout.cu does it: from the same
// numbers, so forward and backward may be in different kernels.
#pragma once
#include "device/generator.h"
#include "kernels/cuda/packs.h"
#include "kernels/random.h"

namespace vt::cuda {

// The elements of a pack that are kept, times the scale. `at` is the first one's position in the
// tensor, a multiple of V.
template <class T, int V>
__device__ __forceinline__ void drop_pack(Pack<T, V>& x, int64_t at, uint32_t least, double scale,
                                          const PhiloxStart& start) {
  using C = compute_t<T>;
  static_assert(V <= 8);
  const Philox4 drawn = philox(start.seed, start.offset + static_cast<uint64_t>(at) / 8);
  const int first = V < 8 ? static_cast<int>(at % 8) : 0;
  Pack<C, V> values = widen<C>(x);
#pragma unroll
  for (int j = 0; j < V; ++j) {
    const int number = (first + j) / 2;
    uint32_t word = drawn.v[V < 8 ? 0 : j / 2];
    if constexpr (V < 8) {  // a register cannot be indexed by what is known at run time only
#pragma unroll
      for (int k = 1; k < 4; ++k)
        if (number == k) word = drawn.v[k];
    }
    const bool second = V == 1 ? first % 2 != 0 : j % 2 != 0;
    values.v[j] =
        random::keep_bits(word, second) >= least ? values.v[j] * static_cast<C>(scale) : C(0);
  }
  x = narrow<T>(values);
}

}  // namespace vt::cuda
