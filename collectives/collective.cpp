// Names and checks of collective calls.
#include "collectives/collective.h"

#include "base/error.h"

namespace vt::collectives {
namespace {

constexpr std::string_view kKinds[] = {"all_reduce", "broadcast", "barrier"};
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

}  // namespace

std::string_view name(Kind kind) { return kKinds[static_cast<int>(kind)]; }
std::string_view name(ReduceOp op) { return kOps[static_cast<int>(op)]; }

ReduceOp parse_reduce_op(std::string_view text) {
  for (int i = 0; i < 5; ++i)
    if (kOps[i] == text) return static_cast<ReduceOp>(i);
  fail(ErrorKind::kValue, "all_reduce: unknown op '", text,
       "'; expected sum, avg, prod, min or max");
}

std::string describe(const Call& call) {
  if (call.kind == Kind::kBarrier) return "barrier";
  const std::string tensor = call.input.defined() ? vt::describe(call.input) : "no tensor";
  if (call.kind == Kind::kBroadcast) return str("broadcast from rank ", call.root, " of ", tensor);
  return str("all_reduce ", name(call.op), " of ", tensor);
}

void check_call(const fabric::Mesh& mesh, int rank, const Call& call) {
  if (call.kind == Kind::kBarrier) return;
  const auto op = name(call.kind);
  VT_CHECK(call.input.defined() && call.output.defined(), kValue, op, ": rank ", rank,
           " brings no tensor");
  for (const Tensor* t : {&call.input, &call.output}) {
    VT_CHECK(t->device() == mesh.device(rank), kRuntime, op, ": rank ", rank, " is on ",
             mesh.device(rank), ", but its tensor is ", *t,
             "; pass one tensor a rank, in the order of the mesh ", mesh);
    VT_CHECK(t->is_dense(), kValue, op, ": rank ", rank, " brings ", *t, " with strides ",
             t->strides(), "; collectives need dense tensors, call .contiguous() first");
  }
  VT_CHECK(call.input.numel() == call.output.numel() && call.input.dtype() == call.output.dtype(),
           kValue, op, ": rank ", rank, " brings ", call.input, " as input and ", call.output,
           " as output; they must agree");
  if (call.kind == Kind::kAllReduce)
    VT_CHECK(call.input.dtype() != DType::kBool, kType, op,
             ": bool tensors cannot be reduced, rank ", rank, " brings ", call.input,
             "; convert to uint8 and take max (any) or min (all)");
  else
    VT_CHECK(call.root >= 0 && call.root < mesh.size(), kValue, op, ": root ", call.root,
             " is out of range, the mesh has ranks 0 to ", mesh.size() - 1);
}

std::string mismatch(int rank_a, const Call& a, int rank_b, const Call& b) {
  bool same = a.kind == b.kind;
  if (same && a.kind == Kind::kAllReduce) same = a.op == b.op;
  if (same && a.kind == Kind::kBroadcast) same = a.root == b.root;
  if (same && a.kind != Kind::kBarrier)
    same = a.input.numel() == b.input.numel() && a.input.dtype() == b.input.dtype();
  if (same) return "";
  return str("collective: rank ", rank_a, " calls ", describe(a), ", but rank ", rank_b, " calls ",
             describe(b), "; all ranks must make the same calls in the same order");
}

void check_overlap(const Unit& unit) {
  if (unit.bytes() == 0) return;
  for (int a = 0; a < unit.ranks(); ++a) {
    const Call& own = unit.calls[a];
    const Range output = range_of(own.output);
    VT_CHECK(own.input.data() == own.output.data() || !output.overlaps(range_of(own.input)), kValue,
             name(own.kind), ": input and output of rank ", a,
             " overlap in part; use one tensor or two separate ones");
    for (int b = 0; b < unit.ranks(); ++b) {
      if (a == b) continue;
      const Call& other = unit.calls[b];
      VT_CHECK(!output.overlaps(range_of(other.output)) && !output.overlaps(range_of(other.input)),
               kValue, name(own.kind), ": ranks ", a, " and ", b,
               " share memory; give each rank a tensor of its own");
    }
  }
}

}  // namespace vt::collectives
