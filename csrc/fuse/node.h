// One operator that was put off: what it computes, the memory that it reads and writes, and how it
// is run by itself.
#pragma once
#include <functional>
#include <vector>

#include "device/backend.h"
#include "fuse/calls.h"
#include "fuse/space.h"
#include "kernels/table.h"

namespace vt::fuse {

// Bytes that an operator touches.
struct Range {
  const char* begin;
  const char* end;
  bool overlaps(const Range& other) const { return overlap(begin, end, other.begin, other.end); }
};

enum class NodeKind : uint8_t {
  kPointwise,  // a functor over windows
  kConvert,    // one window into another, between any two types
  kFill,       // a number into a window
  kReduce,     // sums or extremes of rows: the innermost elements of the space
  kCall,       // a structured kernel: an opaque call with the ranges that it reads and writes
};

inline constexpr int kMaxInputs = ElementwisePlan::kMaxOperands - 1;
inline constexpr int kMaxParams = 4;

struct Node {
  Node(NodeKind what, const char* called, Device where) : kind(what), name(called), device(where) {}

  NodeKind kind;
  const char* name;
  Device device;
  Stream stream;  // that it was queued on

  // Elementwise nodes.
  PointwiseOp op{};
  DType dtype{};  // of the inputs that are not bool by nature
  Space space;
  Window out;
  int inputs = 0;             // windows and the number, in the functor's order
  Window in[kMaxInputs];      // in[scalar_at] is unused
  int scalar_at = kNoScalar;  // the input that is a number
  Scalar params[kMaxParams];  // of the functor, then the number; a fill's value
  int param_count = 0;
  int64_t row = 0;  // of a reduction: how many innermost elements are one row; out repeats there
  ReduceKind reduce{};

  // Calls.
  std::vector<Range> reads, writes;
  Call call;
  std::function<void()> run;

  bool elementwise() const { return kind != NodeKind::kCall; }
};

}  // namespace vt::fuse
