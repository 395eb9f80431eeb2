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
  const char* algorithm(const Unit&) const override { return "threads"; }
  const char* last_algorithm() const override { return "threads"; }

  void run(const Unit& unit) override {
    if (unit.part == 0) return;  // of a barrier, that all ranks have arrived is all there is to it
    if (traits(unit.call().kind).reduces) reduce(unit);
    else move(unit);
  }

 private:
  // out[p][i] = the reduction over all ranks of in[r][i], for each output p.
  static void reduce_part(const Unit& unit, const Buffers& buffers) {
    const ReduceRange range = choose(unit.dtype, unit.call().op);
    VT_CHECK(range, kType, name(unit.call().kind), ": not implemented for ", name(unit.dtype));
    parallel_for(unit.part, kGrain / static_cast<int64_t>(item_size(unit.dtype)),
                 [&](int64_t begin, int64_t end) { range(buffers, begin, end); });
  }

  static void reduce(const Unit& unit) {
    const bool scatters = unit.call().kind == Kind::kReduceScatter;
    Buffers buffers{};
    buffers.ranks = unit.ranks();
    for (int p = 0; p < (scatters ? unit.ranks() : 1); ++p) {
      buffers.outputs = 0;
      for (int r = 0; r < unit.ranks(); ++r) {
        buffers.in[r] = unit.in(r, p);
        if (scatters ? r == p : unit.calls[r].has_output(r))
          buffers.out[buffers.outputs++] = unit.out(r);
      }
      reduce_part(unit, buffers);
    }
  }

  static void move(const Unit& unit) {
    parallel_for(static_cast<int64_t>(unit.bytes()), kGrain, [&](int64_t begin, int64_t end) {
      for_each_move(unit, [&](int, int, const void* from, void* to) {
        std::memcpy(static_cast<char*>(to) + begin, static_cast<const char*>(from) + begin,
                    end - begin);
      });
    });
  }
};

}  // namespace

std::unique_ptr<Engine> make_cpu_engine(const fabric::Mesh&) {
  return std::make_unique<CpuEngine>();
}

}  // namespace vt::collectives
