// What a reduction does with elements, by kind and type: the accumulator, one run of memory, one
// row of columns.
#pragma once
#include <limits>

#include "base/dtype.h"
#include "kernels/cpu/simd/vec.h"

namespace vt::cpu::VT_ISA {

// In: the elements as computed with: float, double, int64_t for any integer, one byte of 0 or 1 for
// truth. Acc: what is carried. run: all of [x, x + n). Lane: what a column carries over at most
// kRows rows, before it is folded into its Acc.
template <class C>
struct SumReduce {
  using In = C;
  using Acc = std::conditional_t<std::is_floating_point_v<C>, double, int64_t>;
  using Lane = std::conditional_t<std::is_floating_point_v<C>, C, int64_t>;
  static constexpr int64_t kRows = 128;
  static constexpr Acc kStart = 0;
  VT_INLINE_MEMBER Acc join(Acc a, Acc b) { return a + b; }
  VT_INLINE_MEMBER Lane lane(Lane a, C x) { return a + static_cast<Lane>(x); }
  VT_INLINE_MEMBER Acc run(const C* x, int64_t n) {
    if constexpr (std::is_floating_point_v<C>) {
      return sum(x, n);
    } else {
      int64_t total = 0;
      for (int64_t i = 0; i < n; ++i) total += x[i];
      return total;
    }
  }
};

template <class C>
struct ProdReduce {
  using In = C;
  using Acc = C;
  using Lane = C;
  static constexpr int64_t kRows = 128;
  static constexpr Acc kStart = 1;
  VT_INLINE_MEMBER Acc join(Acc a, Acc b) {
    if constexpr (std::is_floating_point_v<C>) return a * b;
    else return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
  }
  VT_INLINE_MEMBER Lane lane(Lane a, C x) { return join(a, static_cast<Acc>(x)); }
  VT_INLINE_MEMBER Acc run(const C* x, int64_t n) {
    Acc part[4] = {1, 1, 1, 1};
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
      for (int j = 0; j < 4; ++j) part[j] = lane(part[j], x[i + j]);
    for (; i < n; ++i) part[0] = lane(part[0], x[i]);
    return join(join(part[0], part[1]), join(part[2], part[3]));
  }
};

template <class C, bool Largest>
struct ExtremeReduce {
  using In = C;
  using Acc = C;
  using Lane = C;
  static constexpr int64_t kRows = int64_t{1} << 40;
  using L = std::numeric_limits<C>;
  static constexpr Acc kStart = Largest ? (L::has_infinity ? -L::infinity() : L::lowest())
                                        : (L::has_infinity ? L::infinity() : L::max());
  VT_INLINE_MEMBER Acc join(Acc a, Acc b) { return better<Largest>(a, b); }
  VT_INLINE_MEMBER Lane lane(Lane a, C x) { return better<Largest>(a, x); }
  VT_INLINE_MEMBER Acc run(const C* x, int64_t n) {
    return n == 0 ? kStart : extreme<Largest>(x, n);
  }
};

// any (Any) or all of the elements being true.
template <bool Any>
struct TruthReduce {
  using In = uint8_t;
  using Acc = uint8_t;
  using Lane = uint8_t;
  static constexpr int64_t kRows = int64_t{1} << 40;
  static constexpr Acc kStart = Any ? 0 : 1;
  VT_INLINE_MEMBER Acc join(Acc a, Acc b) { return Any ? (a | b) : (a & b); }
  VT_INLINE_MEMBER Lane lane(Lane a, uint8_t x) { return join(a, x); }
  VT_INLINE_MEMBER Acc run(const uint8_t* x, int64_t n) {
    Acc result = kStart;
    for (int64_t i = 0; i < n; ++i) result = join(result, x[i]);
    return result;
  }
};

}  // namespace vt::cpu::VT_ISA
