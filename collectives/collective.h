// What a collective is: its kind, the shapes of what the ranks bring, its reduction, and the unit
// of work that the calls of all ranks add up to.
#pragma once
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "fabric/mesh.h"
#include "tensor/tensor.h"

namespace vt::collectives {

enum class Kind : uint8_t {
  kAllReduce,
  kReduceScatter,
  kAllGather,
  kBroadcast,
  kReduce,
  kAllToAll,
  kGather,
  kScatter,
  kSendRecv,
  kBarrier,
};
inline constexpr int kKindCount = 10;
enum class ReduceOp : uint8_t { kSum, kAvg, kProd, kMin, kMax };

// Note [Parts]
// Every kind is made of parts of one size. A tensor is one part, or one part a rank, those of rank
// 0 first: reduce_scatter of n ranks takes n parts from each and gives each one part. So a kind is
// described by four words: how many parts input and output have, and who has them.
enum class Parts : uint8_t { kOne, kPerRank };
enum class Owner : uint8_t { kNobody, kAll, kRoot };
struct Traits {
  std::string_view name;
  bool reduces;
  Owner input_owner, output_owner;
  Parts input, output;
  bool in_place;  // a rank's part may be the same memory on both sides

  bool rooted() const { return input_owner == Owner::kRoot || output_owner == Owner::kRoot; }
};
const Traits& traits(Kind kind);

inline std::string_view name(Kind kind) { return traits(kind).name; }
std::string_view name(ReduceOp op);
// The names above; ValueError otherwise.
Kind parse_kind(std::string_view text);
// "sum", "avg", "prod", "min", "max"; ValueError otherwise.
ReduceOp parse_reduce_op(std::string_view text);

inline constexpr int kNoRank = -1;

// One rank's call. What the kind does not ask of the rank is ignored: a barrier has neither input
// nor output, a reduce has an output at the root only.
struct Call {
  Kind kind = Kind::kBarrier;
  ReduceOp op = ReduceOp::kSum;
  int root = 0;
  Tensor input, output;
  int to = kNoRank, from = kNoRank;  // sendrecv: where the input goes, where the output comes from
  bool alone =
      false;  // its caller queues nothing that could run beside it; only speed depends on it

  bool has_input(int rank) const;
  bool has_output(int rank) const;
};

// "all_reduce sum of f32[2, 3]@cpu:0", as error messages show a call.
std::string describe(const Call& call);

// The calls of all ranks, matched: what an engine runs. calls[0] speaks for kind, op and root of
// all.
struct Unit {
  uint64_t sequence = 0;
  std::vector<Call> calls;     // by rank
  std::vector<void*> marks;    // by rank: what the engine noted when the rank arrived; may
                               // be one for several
  bool in_line = false;        // no marks: comes between what the calling thread has queued on its
                               // current streams before and what it queues later
  uint32_t arrived = 0;        // bit mask of ranks
  std::exception_ptr failure;  // the calls do not match: it will not run
  int64_t part = 0;            // elements; see Note [Parts]
  DType dtype = DType::kU8;    // of all tensors

  const Call& call() const { return calls[0]; }
  int ranks() const { return static_cast<int>(calls.size()); }
  int64_t numel() const { return part; }
  size_t bytes() const { return static_cast<size_t>(part) * item_size(dtype); }  // of a part

  // The p-th part of a rank's input or output.
  const void* in(int rank, int p = 0) const {
    return calls[rank].input.data<const char>() + static_cast<size_t>(p) * bytes();
  }
  void* out(int rank, int p = 0) const {
    return calls[rank].output.data<char>() + static_cast<size_t>(p) * bytes();
  }
};

// What one rank brings must make sense by itself: dense tensors of fitting sizes on the rank's
// device, a dtype that the reduction knows. ValueError or FabricError otherwise.
void check_call(const fabric::Mesh& mesh, int rank, const Call& call);
// "" if the calls of two ranks belong together, else the sentence that names both.
std::string mismatch(int ranks, int rank_a, const Call& a, int rank_b, const Call& b);
// All calls of a unit must belong together; FabricError otherwise.
void check_match(const Unit& unit);
// Fills in part and dtype.
void measure(Unit& unit);
// No rank may write what another reads or writes: throws a ValueError that names the two.
void check_overlap(const Unit& unit);

// Calls f(source, destination, from, to) for every part that a kind without a reduction moves: the
// ranks at its two ends and the addresses of its unit.bytes(). Parts that are in place already are
// left out. Each part is read by its source or written by its destination alone, so that they may
// be moved in any order.
template <class F>
void for_each_move(const Unit& unit, F&& f) {
  const Traits& kind = traits(unit.call().kind);
  const int ranks = unit.ranks(), root = unit.call().root;
  const auto one = [&](int source, int destination) {
    const void* const from = unit.in(source, kind.input == Parts::kPerRank ? destination : 0);
    void* const to = unit.out(destination, kind.output == Parts::kPerRank ? source : 0);
    if (from != to) f(source, destination, from, to);
  };
  if (kind.reduces || unit.part == 0) return;
  for (int source = 0; source < ranks; ++source) {
    if (!unit.calls[source].has_input(source)) continue;
    if (unit.call().kind == Kind::kSendRecv) {
      one(source, unit.calls[source].to);
    } else if (kind.output_owner == Owner::kRoot) {
      one(source, root);
    } else {
      for (int destination = 0; destination < ranks; ++destination) one(source, destination);
    }
  }
}

}  // namespace vt::collectives
