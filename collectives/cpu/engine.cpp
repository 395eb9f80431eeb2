// The CPU engine. Results have the same bits for any number of threads and any cut of the data; it
// is the reference for all others.
#include "collectives/engine.h"

#include <cstring>

#include "base/error.h"
#include "collectives/cpu/reduce_range.h"
#include "device/cpu/isa.h"
#include "device/cpu/parallel.h"

namespace vt::collectives {
namespace {

constexpr int64_t kGrain = 64 << 10;  // bytes of a rank that a thread takes at least

ReduceRange choose(DType dtype, ReduceOp op) {
#if defined(__x86_64__)
  if (cpu::isa() == cpu::Isa::kAvx512) return avx512::reduce_range(dtype, op);
  if (cpu::isa() == cpu::Isa::kAvx2) return avx2::reduce_range(dtype, op);
#endif
  return base::reduce_range(dtype, op);
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
    Buffers buffers{};
    for (const Call& call : unit.calls) {
      buffers.in[buffers.ranks] = call.input.data();
      buffers.out[buffers.ranks++] = call.output.data();
    }
    const DType dtype = unit.call().input.dtype();
    const ReduceRange reduce = choose(dtype, unit.call().op);
    VT_CHECK(reduce, kType, "all_reduce: not implemented for ", name(dtype));
    parallel_for(unit.numel(), kGrain / static_cast<int64_t>(item_size(dtype)),
                 [&](int64_t begin, int64_t end) { reduce(buffers, begin, end); });
  }

  static void broadcast(const Unit& unit) {
    const Call& root = unit.calls[unit.call().root];
    parallel_for(static_cast<int64_t>(unit.bytes()), kGrain, [&](int64_t begin, int64_t end) {
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
