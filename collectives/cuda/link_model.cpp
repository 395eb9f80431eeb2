// The model's numbers, and the counts that they are multiplied by.
#include "collectives/cuda/link_model.h"

#include <algorithm>

namespace vt::collectives::gpu::link_model {
namespace {

struct Way {
  double start;  // us
  double speed;  // bytes a us, each way at once
};
double us(const Way& way, double bytes) { return way.start + bytes / way.speed; }

constexpr Way kPackets{2.3, 363e3};  // stores; half of them are flags
constexpr Way kTwoShot{6, 342e3};    // as many loads as stores
constexpr Way kPush{8.5, 363e3};     // stores
constexpr double kCopy = 3.6;        // us that a copy costs beside its bytes
constexpr double kPiece = 128e6;     // bytes, of one other rank, that copies move at a time

// Both ways of a kind that is not an all_reduce: by a kernel, and by copy engines.
struct Ways {
  Way kernel, copies;
};
constexpr Ways kMove{{6, 362e3}, {17, 390e3}};
constexpr Ways kMoveAndKeep{{6, 362e3}, {30, 390e3}};  // a part of its own each has to copy, too
constexpr Ways kBroadcast{{6, 352e3}, {13.5, 390e3}};
constexpr Ways kReduceScatter{{6, 330e3}, {30, 368e3}};
constexpr Ways kReduce{{11.5, 371e3}, {30, 390e3}};
constexpr Way kAllReduceCopies{18, 381e3};
const Ways& ways_of(const Unit& unit) {
  switch (unit.call().kind) {
    case Kind::kAllGather:
    case Kind::kAllToAll: return kMoveAndKeep;
    case Kind::kBroadcast: return kBroadcast;
    case Kind::kReduceScatter: return kReduceScatter;
    case Kind::kReduce: return kReduce;
    default: return kMove;
  }
}
constexpr double kClearly = 0.99;  // of the kernel's time

// Copies of a rank that brings `bytes` of each of `others`, in so many pieces at least.
double copies(double bytes, double others, double least = 1) {
  return others * std::max(bytes * others / kPiece, least);
}

double over_link(const Unit& unit, double here, double others, bool by_copies) {
  const auto part = static_cast<double>(unit.bytes());
  const double ranks = here + others;
  switch (unit.call().kind) {
    case Kind::kBroadcast: return part;
    case Kind::kSendRecv: return here * part;
    case Kind::kReduce:  // by kernels in slices, one a rank, that end at the root
      return by_copies || ranks == 2 ? part : 2 * part * others / ranks;
    case Kind::kGather:
    case Kind::kScatter: return others * part;
    default: return here * others * part;
  }
}

}  // namespace

Algorithm all_reduce(const Site& site, const Unit& unit) {
  const double ranks = site.ranks(), here = site.mesh().max_ranks_on_a_device();
  const auto bytes = static_cast<double>(unit.bytes());
  const double everything = here * (ranks - here) * bytes;  // of all to all
  const double slices = 2 * everything / ranks;             // to their owners, and to all
  struct {
    Algorithm algorithm;
    double time;
  } ways[] = {
      {Algorithm::kTwoShot, us(kTwoShot, slices)},
      {Algorithm::kPush, us(kPush, slices)},
      {Algorithm::kPackets, us(kPackets, 2 * everything)},
      {Algorithm::kPackets2, 2 * us(kPackets, slices)},
      {Algorithm::kCopyEngine,
       us(kAllReduceCopies, slices) + 2 * kCopy * here * copies(bytes / ranks, ranks - 1, 2)},
  };
  if (site.options().always_stage || !site.reachable(unit)) ways[4].time = ways[0].time;
  return std::ranges::min_element(ways, {}, [](const auto& way) { return way.time; })->algorithm;
}

bool packets_pay(const Site& site, const Unit& unit) {
  const double here = site.mesh().max_ranks_on_a_device(), others = site.ranks() - here;
  const double bytes = over_link(unit, here, others, false);
  return us(kPackets, 2 * bytes) < us(ways_of(unit).kernel, bytes);
}

bool copies_pay(const Site& site, const Unit& unit) {
  const double here = site.mesh().max_ranks_on_a_device(), others = site.ranks() - here;
  const Ways& ways = ways_of(unit);
  const auto part = static_cast<double>(unit.bytes());
  const double engines =
      us(ways.copies, over_link(unit, here, others, true)) + kCopy * here * copies(part, others);
  return engines < kClearly * us(ways.kernel, over_link(unit, here, others, false));
}

}  // namespace vt::collectives::gpu::link_model
