// The model's numbers, and the counts that they are multiplied by.
#include "collectives/link_model.h"

#include <algorithm>
#include <limits>

namespace vt::collectives {
namespace {

struct Way {
  double start;  // us
  double speed;  // bytes a us, each way at once
};
double us(const Way& way, double bytes) { return way.start + bytes / way.speed; }

constexpr Way kPackets{3.2, 300e3};  // stores; half of them are flags
constexpr Way kTwoShot{6.5, 332e3};  // as many loads as stores
constexpr Way kPush{8.5, 363e3};     // stores
constexpr Way kAllReduceCopies{18, 382e3};
constexpr double kHop = 1.6;      // us until what a kernel sends is seen by another that runs
constexpr double kCopy = 3.6;     // us that a copy costs beside its bytes
constexpr double kPiece = 128e6;  // bytes, of one other rank, that copies move at a time

// Both ways of a kind that is not an all_reduce: by a kernel, and by copy engines.
struct Ways {
  Way kernel, copies;
};
constexpr Ways kMove{{6, 362e3}, {17, 390e3}};
constexpr Ways kMoveAndKeep{{6, 362e3}, {30, 390e3}};  // a part of its own each has to copy, too
constexpr Ways kBroadcast{{6, 352e3}, {13.5, 390e3}};
constexpr Ways kReduceScatter{{6, 330e3}, {50, 368e3}};
constexpr Ways kReduce{{11.5, 371e3}, {30, 386e3}};
constexpr double kClearly = 0.99;  // of the kernel's time

const Ways& ways_of(Kind kind) {
  switch (kind) {
    case Kind::kAllGather:
    case Kind::kAllToAll: return kMoveAndKeep;
    case Kind::kBroadcast: return kBroadcast;
    case Kind::kReduceScatter: return kReduceScatter;
    case Kind::kReduce: return kReduce;
    default: return kMove;
  }
}

// Copies of a rank that brings `bytes` of each of `others`, in so many pieces at least.
double copies(double bytes, double others, double least = 1) {
  return others * std::max(bytes * others / kPiece, least);
}

}  // namespace

double LinkModel::all_reduce(Algorithm algorithm, size_t bytes) const {
  const double everything = here_ * others_ * static_cast<double>(bytes);  // of all to all
  const double slices = 2 * everything / ranks_;  // to their owners, and to all
  switch (algorithm) {
    case Algorithm::kPackets: return us(kPackets, 2 * everything);
    case Algorithm::kPackets2: return kHop + us(kPackets, 2 * slices);
    case Algorithm::kTwoShot: return us(kTwoShot, slices);
    case Algorithm::kPush: return us(kPush, slices);
    case Algorithm::kCopyEngine:
      return us(kAllReduceCopies, slices) +
             2 * kCopy * here_ * copies(static_cast<double>(bytes) / ranks_, ranks_ - 1, 2);
    default: return std::numeric_limits<double>::infinity();
  }
}

Algorithm LinkModel::fastest_all_reduce(size_t bytes, bool copy_engines) const {
  Algorithm fastest = Algorithm::kTwoShot;
  for (Algorithm other : {Algorithm::kPush, Algorithm::kPackets, Algorithm::kPackets2})
    if (all_reduce(other, bytes) < all_reduce(fastest, bytes)) fastest = other;
  const double engines = all_reduce(Algorithm::kCopyEngine, bytes);
  return copy_engines && engines < kClearly * all_reduce(fastest, bytes) ? Algorithm::kCopyEngine
                                                                         : fastest;
}

double LinkModel::over_link(Kind kind, double part, bool by_copies) const {
  switch (kind) {
    case Kind::kBroadcast: return part;
    case Kind::kSendRecv: return here_ * part;
    case Kind::kReduce:  // by kernels in slices, one a rank, that end at the root
      return by_copies || ranks_ == 2 ? part : 2 * part * others_ / ranks_;
    case Kind::kGather:
    case Kind::kScatter: return others_ * part;
    default: return here_ * others_ * part;
  }
}

// Of one rank. What is only moved goes as a whole.
double LinkModel::copies_of(Kind kind, double part) const {
  switch (kind) {
    case Kind::kReduceScatter: return copies(part, others_);
    case Kind::kReduce: return copies(part / others_, others_);
    case Kind::kGather:
    case Kind::kSendRecv: return 1;
    default: return others_;
  }
}

bool LinkModel::packets_pay(Kind kind, size_t part) const {
  const double bytes = over_link(kind, static_cast<double>(part), false);
  return us(kPackets, 2 * bytes) < us(ways_of(kind).kernel, bytes);
}

bool LinkModel::copies_pay(Kind kind, size_t part) const {
  const Ways& ways = ways_of(kind);
  const auto bytes = static_cast<double>(part);
  const double engines =
      us(ways.copies, over_link(kind, bytes, true)) + kCopy * here_ * copies_of(kind, bytes);
  return engines < kClearly * us(ways.kernel, over_link(kind, bytes, false));
}

}  // namespace vt::collectives
