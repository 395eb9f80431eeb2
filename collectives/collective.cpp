// Names, shapes and checks of collective calls.
#include "collectives/collective.h"

#include <algorithm>

#include "base/error.h"

namespace vt::collectives {
namespace {

using enum Owner;
using enum Parts;

constexpr Traits kTraits[kKindCount] = {
    // name, reduces, who has an input, an output, parts of the input, of the output, in place
    {"all_reduce", true, kAll, kAll, kOne, kOne, true},
    {"reduce_scatter", true, kAll, kAll, kPerRank, kOne, true},
    {"all_gather", false, kAll, kAll, kOne, kPerRank, true},
    {"broadcast", false, kRoot, kAll, kOne, kOne, true},
    {"reduce", true, kAll, kRoot, kOne, kOne, true},
    {"all_to_all", false, kAll, kAll, kPerRank, kPerRank, false},
    {"gather", false, kAll, kRoot, kOne, kPerRank, true},
    {"scatter", false, kRoot, kAll, kPerRank, kOne, true},
    {"sendrecv", false, kAll, kAll, kOne, kOne, false},
    {"barrier", false, kNobody, kNobody, kOne, kOne, false},
};
constexpr std::string_view kOps[] = {"sum", "avg", "prod", "min", "max"};

struct Range {
  const char* begin;
  const char* end;
  bool overlaps(const Range& other) const { return begin < other.end && other.begin < end; }
};

Range range_of(const Tensor& t) {
  const char* begin = static_cast<const char*>(t.data());
  return {begin, begin + t.bytes()};
}

bool has(Owner owner, int rank, int root) {
  return owner == kAll || (owner == kRoot && rank == root);
}

int64_t count_of(Parts parts, int ranks) { return parts == kPerRank ? ranks : 1; }

// What a rank's call says about the parts; no tensor where it brings none.
const Tensor* witness(int rank, const Call& call) {
  if (call.has_input(rank)) return &call.input;
  if (call.has_output(rank)) return &call.output;
  return nullptr;
}

int64_t part_of(int ranks, int rank, const Call& call) {
  const Traits& kind = traits(call.kind);
  if (call.has_input(rank)) return call.input.numel() / count_of(kind.input, ranks);
  return call.output.numel() / count_of(kind.output, ranks);
}

// The one way in which a rank's own input and output may share memory.
bool is_in_place(const Unit& unit, int rank) {
  const Traits& kind = traits(unit.call().kind);
  if (!kind.in_place) return false;
  return unit.in(rank, kind.input == kPerRank ? rank : 0) ==
         unit.out(rank, kind.output == kPerRank ? rank : 0);
}

const char* in_place_hint(const Traits& kind) {
  if (!kind.in_place) return "; use two separate tensors";
  if (kind.input == kPerRank)
    return " in part; use two separate tensors, or as output the rank's own part of the input";
  if (kind.output == kPerRank)
    return " in part; use two separate tensors, or as input the rank's own part of the output";
  return " in part; use one tensor or two separate ones";
}

void check_tensor(const fabric::Mesh& mesh, int rank, const Call& call, const Tensor& t,
                  const char* side) {
  const auto op = name(call.kind);
  VT_CHECK(t.defined(), kValue, op, ": rank ", rank, " brings no tensor as ", side);
  VT_CHECK(t.device() == mesh.device(rank), kRuntime, op, ": rank ", rank, " is on ",
           mesh.device(rank), ", but its tensor is ", t,
           "; pass one tensor a rank, in the order of the mesh ", mesh);
  VT_CHECK(t.is_dense(), kValue, op, ": rank ", rank, " brings ", t, " with strides ", t.strides(),
           "; collectives need dense tensors, call .contiguous() first");
}

void check_rank(const fabric::Mesh& mesh, const Call& call, int rank, const char* what) {
  VT_CHECK(rank >= 0 && rank < mesh.size(), kValue, name(call.kind), ": ", what, ' ', rank,
           " is out of range, the mesh has ranks 0 to ", mesh.size() - 1);
}

// sendrecv: do the two agree on what passes between them?
bool ends_match(int rank_a, const Call& a, int rank_b, const Call& b) {
  return (a.to == rank_b) == (b.from == rank_a) && (a.from == rank_b) == (b.to == rank_a);
}

}  // namespace

const Traits& traits(Kind kind) { return kTraits[static_cast<int>(kind)]; }
std::string_view name(ReduceOp op) { return kOps[static_cast<int>(op)]; }

Kind parse_kind(std::string_view text) {
  std::string known;
  for (int i = 0; i < kKindCount; ++i) {
    if (kTraits[i].name == text) return static_cast<Kind>(i);
    known += str(i == 0 ? "" : i + 1 < kKindCount ? ", " : " or ", kTraits[i].name);
  }
  fail(ErrorKind::kValue, "collective: unknown kind '", text, "'; expected ", known);
}

ReduceOp parse_reduce_op(std::string_view text) {
  for (int i = 0; i < 5; ++i)
    if (kOps[i] == text) return static_cast<ReduceOp>(i);
  fail(ErrorKind::kValue, "collective: unknown op '", text,
       "'; expected sum, avg, prod, min or max");
}

bool Call::has_input(int rank) const {
  return kind == Kind::kSendRecv ? to != kNoRank : has(traits(kind).input_owner, rank, root);
}
bool Call::has_output(int rank) const {
  return kind == Kind::kSendRecv ? from != kNoRank : has(traits(kind).output_owner, rank, root);
}

std::string describe(const Call& call) {
  const Traits& kind = traits(call.kind);
  if (call.kind == Kind::kBarrier) return "barrier";
  std::string text(kind.name);
  if (kind.reduces) text += str(' ', name(call.op));
  if (kind.input_owner == kRoot) text += str(" from rank ", call.root);
  if (kind.output_owner == kRoot) text += str(" to rank ", call.root);
  if (call.kind == Kind::kSendRecv) {
    if (call.to != kNoRank) text += str(" to rank ", call.to);
    if (call.from != kNoRank) text += str(" from rank ", call.from);
  }
  // An input says most; those who only receive have no other than the output.
  const Tensor& shown = call.input.defined() ? call.input : call.output;
  return text + str(" of ", shown.defined() ? vt::describe(shown) : "no tensor");
}

void check_call(const fabric::Mesh& mesh, int rank, const Call& call) {
  if (call.kind == Kind::kBarrier) return;
  const Traits& kind = traits(call.kind);
  if (kind.rooted()) check_rank(mesh, call, call.root, "root");
  if (call.to != kNoRank) check_rank(mesh, call, call.to, "rank");
  if (call.from != kNoRank) check_rank(mesh, call, call.from, "rank");
  VT_CHECK((call.to == rank) == (call.from == rank), kValue, kind.name, ": rank ", rank,
           " sends to rank ", call.to, " and receives from rank ", call.from,
           "; what a rank sends to itself it also receives");
  const bool reads = call.has_input(rank), writes = call.has_output(rank);
  if (reads) check_tensor(mesh, rank, call, call.input, "input");
  if (writes) check_tensor(mesh, rank, call, call.output, "output");
  const int64_t in = count_of(kind.input, mesh.size()), out = count_of(kind.output, mesh.size());
  if (reads)
    VT_CHECK(call.input.numel() % in == 0, kValue, kind.name, ": rank ", rank, " brings ",
             call.input, ", which ", in, " ranks cannot share equally; pad it to a multiple of ",
             in, " elements");
  if (writes && !reads)
    VT_CHECK(call.output.numel() % out == 0, kValue, kind.name, ": rank ", rank, " brings ",
             call.output, " as output, which cannot hold equal parts of ", out, " ranks");
  if (reads && writes)
    VT_CHECK(call.input.numel() * out == call.output.numel() * in &&
                 call.input.dtype() == call.output.dtype(),
             kValue, kind.name, ": rank ", rank, " brings ", call.input, " as input and ",
             call.output, " as output; they must agree",
             in == out  ? " in size and dtype"
             : in > out ? str(": the output has 1/", in, " of the input's elements")
                        : str(": the output has ", out, " times the input's elements"));
  if (kind.reduces)
    VT_CHECK(call.input.dtype() != DType::kBool, kType, kind.name,
             ": bool tensors cannot be reduced, rank ", rank, " brings ", call.input,
             "; convert to uint8 and take max (any) or min (all)");
}

std::string mismatch(int ranks, int rank_a, const Call& a, int rank_b, const Call& b) {
  bool same = a.kind == b.kind;
  const Traits& kind = traits(a.kind);
  if (same && kind.reduces) same = a.op == b.op;
  if (same && kind.rooted()) same = a.root == b.root;
  if (same && a.kind == Kind::kSendRecv) same = ends_match(rank_a, a, rank_b, b);
  if (same) {
    const Tensor *of_a = witness(rank_a, a), *of_b = witness(rank_b, b);
    if (of_a && of_b)
      same =
          of_a->dtype() == of_b->dtype() && part_of(ranks, rank_a, a) == part_of(ranks, rank_b, b);
  }
  if (same) return "";
  return str("collective: rank ", rank_a, " calls ", describe(a), ", but rank ", rank_b, " calls ",
             describe(b), "; all ranks must make the same calls in the same order");
}

void check_match(const Unit& unit) {
  const int ranks = unit.ranks();
  for (int a = 0; a < ranks; ++a) {
    for (int b = a + 1; b < ranks; ++b)
      if (const std::string text = mismatch(ranks, a, unit.calls[a], b, unit.calls[b]);
          !text.empty())
        fail(ErrorKind::kFabric, text);
    if (unit.call().kind != Kind::kSendRecv) break;  // all like the first are like one another
  }
}

void measure(Unit& unit) {
  unit.part = 0;
  for (int r = 0; r < unit.ranks(); ++r)
    if (const Tensor* t = witness(r, unit.calls[r])) {
      unit.part = part_of(unit.ranks(), r, unit.calls[r]);
      unit.dtype = t->dtype();
      return;
    }
}

void check_overlap(const Unit& unit) {
  if (unit.part == 0) return;
  for (int a = 0; a < unit.ranks(); ++a) {
    const Call& own = unit.calls[a];
    if (!own.has_output(a)) continue;
    const Range output = range_of(own.output);
    if (own.has_input(a))
      VT_CHECK(!output.overlaps(range_of(own.input)) || is_in_place(unit, a), kValue,
               name(own.kind), ": input and output of rank ", a, " overlap",
               in_place_hint(traits(own.kind)));
    for (int b = 0; b < unit.ranks(); ++b) {
      if (a == b) continue;
      const Call& other = unit.calls[b];
      VT_CHECK(!(other.has_output(b) && output.overlaps(range_of(other.output))) &&
                   !(other.has_input(b) && output.overlaps(range_of(other.input))),
               kValue, name(own.kind), ": ranks ", a, " and ", b,
               " share memory; give each rank a tensor of its own");
    }
  }
}

}  // namespace vt::collectives
