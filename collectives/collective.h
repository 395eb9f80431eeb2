// What a collective is: its kind, its reduction, and the unit of work that the calls of all ranks
// add up to.
#pragma once
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "fabric/mesh.h"
#include "tensor/tensor.h"

namespace vt::collectives {

enum class Kind : uint8_t { kAllReduce, kBroadcast, kBarrier };
enum class ReduceOp : uint8_t { kSum, kAvg, kProd, kMin, kMax };

std::string_view name(Kind kind);
std::string_view name(ReduceOp op);
// "sum", "avg", "prod", "min", "max"; ValueError otherwise.
ReduceOp parse_reduce_op(std::string_view text);

// One rank's call. Input and output may be the same tensor; a barrier has neither.
struct Call {
  Kind kind = Kind::kBarrier;
  ReduceOp op = ReduceOp::kSum;
  int root = 0;
  Tensor input, output;
};

// "all_reduce sum of f32[2, 3]@cpu:0", as error messages show a call.
std::string describe(const Call& call);

// The calls of all ranks, matched: what an engine runs. calls[0] speaks for kind, op, root, dtype
// and numel of all.
struct Unit {
  uint64_t sequence = 0;
  std::vector<Call> calls;     // by rank
  std::vector<void*> marks;    // by rank: what the engine noted when the rank arrived
  uint32_t arrived = 0;        // bit mask of ranks
  std::exception_ptr failure;  // the calls do not match: it will not run

  const Call& call() const { return calls[0]; }
  int ranks() const { return static_cast<int>(calls.size()); }
  int64_t numel() const { return calls[0].input.defined() ? calls[0].input.numel() : 0; }
  size_t bytes() const { return calls[0].input.defined() ? calls[0].input.bytes() : 0; }
};

// What one rank brings must make sense by itself: dense tensors of one shape on the rank's device,
// a dtype that the reduction knows. ValueError or FabricError otherwise.
void check_call(const fabric::Mesh& mesh, int rank, const Call& call);
// "" if the calls of two ranks belong together, else the sentence that names both.
std::string mismatch(int rank_a, const Call& a, int rank_b, const Call& b);
// No rank may write what another reads or writes: throws a ValueError that names the two.
void check_overlap(const Unit& unit);

}  // namespace vt::collectives
