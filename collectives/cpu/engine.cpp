// The CPU engine: one pass over memory in pieces that fit the cache, always added in the order of
// the ranks, so that the result has the same bits for any number of threads and any cut of the
// data. It is the reference for all others.
#include "collectives/engine.h"

#include <cstring>

#include "collectives/reduce.h"
#include "device/cpu/parallel.h"

namespace vt::collectives {
namespace {

constexpr int64_t kPiece = 1024;      // elements a piece: the accumulator stays in L1
constexpr int64_t kGrain = 16 << 10;  // elements a thread at least

// out[r][i] = op over r of in[r][i], for i in [begin, end).
template <class T, class Op>
void reduce_range(const Unit& unit, int64_t begin, int64_t end) {
  using Acc = compute_t<T>;
  const int ranks = unit.ranks();
  alignas(64) Acc sum[kPiece];
  alignas(64) T result[kPiece];
  for (int64_t at = begin; at < end; at += kPiece) {
    const int64_t count = std::min(kPiece, end - at);
    const T* first = unit.calls[0].input.data<T>() + at;
    for (int64_t i = 0; i < count; ++i) sum[i] = static_cast<Acc>(first[i]);
    for (int r = 1; r < ranks; ++r) {
      const T* next = unit.calls[r].input.data<T>() + at;
      for (int64_t i = 0; i < count; ++i) sum[i] = Op::combine(sum[i], static_cast<Acc>(next[i]));
    }
    if (unit.call().op == ReduceOp::kAvg)
      for (int64_t i = 0; i < count; ++i) sum[i] = average(sum[i], ranks);
    for (int64_t i = 0; i < count; ++i) result[i] = static_cast<T>(sum[i]);
    for (const Call& call : unit.calls)
      std::memcpy(call.output.data<T>() + at, result, count * sizeof(T));
  }
}

class CpuEngine final : public Engine {
 public:
  void run(const Unit& unit) override {
    switch (unit.call().kind) {
      case Kind::kAllReduce: return all_reduce(unit);
      case Kind::kBroadcast: return broadcast(unit);
      case Kind::kBarrier: return;  // that all ranks have arrived is all there is to it
    }
  }

 private:
  static void all_reduce(const Unit& unit) {
    visit_reduction(unit.call().input.dtype(), unit.call().op, [&](auto type, auto op) {
      using T = typename decltype(type)::type;
      parallel_for(unit.numel(), kGrain, [&](int64_t begin, int64_t end) {
        reduce_range<T, decltype(op)>(unit, begin, end);
      });
    });
  }

  static void broadcast(const Unit& unit) {
    const Call& root = unit.calls[unit.call().root];
    constexpr int64_t kBytes = kGrain * 4;
    parallel_for(static_cast<int64_t>(unit.bytes()), kBytes, [&](int64_t begin, int64_t end) {
      for (const Call& call : unit.calls) {
        if (call.output.data() == root.input.data()) continue;
        std::memcpy(call.output.data<char>() + begin, root.input.data<char>() + begin, end - begin);
      }
    });
  }
};

}  // namespace

std::unique_ptr<Engine> make_cpu_engine(const fabric::Mesh&) {
  return std::make_unique<CpuEngine>();
}

}  // namespace vt::collectives
