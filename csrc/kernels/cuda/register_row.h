// A row held in the registers of a warp or block, so that kernels which need it twice read it from
// memory once; and the choice of how many threads and packs hold it.
#pragma once
#include <initializer_list>

#include "kernels/cuda/block.h"

namespace vt::cuda {

// Lane l of kWidth holds the packs l, l + kWidth, ... of V elements each, kPacks at most.
template <class T, int V, int kWidth, int kPacks>
struct RegisterRow {
  Pack<T, V> packs[kPacks];

  // Element number of a lane's pack, and whether the row has it; n is a multiple of V.
  static __device__ __forceinline__ int start(int pack, int lane) {
    return (pack * kWidth + lane) * V;
  }
  __device__ __forceinline__ void load(const T* row, int n, int lane) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (const int i = start(p, lane); i < n)
        packs[p] = *reinterpret_cast<const Pack<T, V>*>(row + i);
  }
  __device__ __forceinline__ void store(T* row, int n, int lane) const {
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (const int i = start(p, lane); i < n) *reinterpret_cast<Pack<T, V>*>(row + i) = packs[p];
  }
  // f(element number, pack, its number) for the lane's packs that the row has.
  template <class F>
  __device__ __forceinline__ void each(int n, int lane, F&& f) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (const int i = start(p, lane); i < n) f(i, packs[p], p);
  }
};

// Can rows of n elements of these tensors (undefined ones are passed over) be cut into packs of 16
// bytes?
template <class T>
bool rows_are_packed(int64_t n, std::initializer_list<const Tensor*> tensors) {
  bool packed = n % (16 / static_cast<int>(sizeof(T))) == 0;
  for (const Tensor* t : tensors) packed &= !t->defined() || is_aligned(t->data(), 16);
  return packed;
}

template <int kWidth, int kPacks>
struct RowShape {
  static constexpr int width = kWidth, packs = kPacks;
};

// Calls f(RowShape) with the first of these shapes that holds `packs` packs; false: none does.
template <class... Shapes, class F>
bool choose_row_shape(int64_t packs, F&& f) {
  return ((packs <= Shapes::width * Shapes::packs && (f(Shapes{}), true)) || ...);
}

}  // namespace vt::cuda
