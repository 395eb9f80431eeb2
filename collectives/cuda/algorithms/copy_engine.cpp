// The order of copies and kernels where copy engines bring what is reduced, or broadcast.
#include "collectives/cuda/algorithms/copy_engine.h"

#include <algorithm>
#include <bit>
#include <cstdint>

#include "collectives/cuda/algorithms/kernels.h"
#include "collectives/cuda/algorithms/parts.h"
#include "collectives/pieces.h"

namespace vt::collectives::gpu::copy_engine {
namespace {

constexpr int kThreads = 512, kBlocks = 264;
constexpr int kThreadsAside = 32, kBlocksAside = 4096;  // Note [Adding beside products]
// Sums that take all of the memory's bandwidth hold copies up, and copies wait for sums that take
// longer than they do: 48 blocks were the best of 8 to 264 for pairs. Beside a last sum that is not
// given away there is no copy to hold up.
constexpr int kBlocksBesideCopies = 48;
constexpr int kDepth = SideStreams::kDepth;
// Bytes. A copy costs 3 to 4 us more than its bytes, so there are to be few. A sum that is given
// away is taken while the one before it is on its way; where none is, the last one is taken when
// nothing else is left to do, and is to be short.
constexpr size_t kMostPiece = 128 << 20, kLastPiece = 32 << 20;
constexpr size_t kWantsRoom = 192 << 20;  // of a part, for one other rank: from there on it pays

// What a rank is in charge of: the same bytes of several tensors.
struct Share {
  size_t bytes = 0;
  const char* from[kMaxCudaRanks] = {};  // by rank: what is added up, or brought; null: nothing
  char* result = nullptr;                // in the rank's own tensor; null: it only hands the sum on
  char* to[kMaxCudaRanks] = {};          // by rank, other ones: where it goes then; null: nowhere

  bool gives(int ranks) const {
    return std::any_of(to, to + ranks, [](const char* p) { return p != nullptr; });
  }
};

// How shares are added up; without a kernel they are only brought and given.
struct Adding {
  const void* kernel = nullptr;
  size_t item = 1;
  bool average = false;
  // At most; of the last piece others.
  int threads = kThreads, blocks = kBlocksBesideCopies, last_blocks = kBlocks;
};

class Flow {
 public:
  Flow(Site& site, const Share (&shares)[kMaxCudaRanks], const Adding& adding, const Plan& plan)
      : site_(site), shares_(shares), adding_(adding) {
    const size_t others = std::max(ranks() - 1, 1);
    room_ = site.scratch_bytes() / (kDepth * others) / kPieceUnit * kPieceUnit;
    const size_t limit = adding.kernel ? room_ : SIZE_MAX;  // what is not added up needs no place
    for (int r = 0; r < ranks(); ++r) {
      const size_t bytes = shares[r].bytes, half = (bytes + 1) / 2;
      const size_t most =
          std::min({plan.chunk ? plan.chunk : kMostPiece, std::max(half, kLastPiece), limit});
      const size_t number = std::max<size_t>((bytes + most - 1) / most, 1);
      const size_t alike = (bytes + number - 1) / number;
      pieces_[r] = tapered_pieces(bytes, alike, hides_last_sum(r) ? alike : kLastPiece);
      steps_ = std::max(steps_, pieces_[r].size());
    }
  }

  // Every wait is queued after the record that it means, for a mark is recorded again every kDepth
  // pieces.
  void queue() {
    parts::meet(site_);
    for (int r = 0; r < ranks(); ++r) {
      if (shares_[r].bytes == 0) continue;
      side().record(r, SideStreams::kStarted, main(r));
      side().wait(bring_lane(r), r, SideStreams::kStarted);
    }
    for (size_t c = 0; c < steps_; ++c) {
      for (int r = 0; r < ranks(); ++r)
        if (c < pieces_[r].size()) bring(r, c);
      for (int r = 0; r < ranks(); ++r)
        if (c < pieces_[r].size() && adding_.kernel) reduce(r, c);
      for (int r = 0; r < ranks(); ++r)
        if (c < pieces_[r].size() && shares_[r].gives(ranks())) give(r, c);
    }
    for (int r = 0; r < ranks(); ++r) {
      if (shares_[r].bytes == 0) continue;
      const int last = slot(pieces_[r].size() - 1);
      side().wait(main(r), r,
                  (adding_.kernel ? SideStreams::kReduced : SideStreams::kBrought) + last);
      if (shares_[r].gives(ranks())) side().wait(main(r), r, SideStreams::kGiven + last);
    }
    parts::meet(site_);
  }

 private:
  int ranks() const { return site_.ranks(); }
  SideStreams& side() const { return site_.side(); }
  Stream main(int rank) const { return site_.streams().at(rank); }
  Stream bring_lane(int rank) const { return side().lane(rank, SideStreams::kBring); }
  static int slot(size_t c) { return static_cast<int>(c % kDepth); }

  bool hides_last_sum(int r) const { return adding_.kernel && shares_[r].gives(ranks()); }

  // Where rank r brings piece c of rank p.
  char* place(int r, int p, size_t c) const {
    if (!adding_.kernel) return shares_[r].result + pieces_[r][c].begin;
    const int number = slot(c) * (ranks() - 1) + (p < r ? p : p - 1);
    return site_.scratch<char>(r) + static_cast<size_t>(number) * room_;
  }

  // The sum of piece c; what rank r does not keep takes the place of one of its parts.
  char* result(int r, size_t c) const {
    const Share& share = shares_[r];
    return share.result ? share.result + pieces_[r][c].begin : place(r, r == 0 ? 1 : 0, c);
  }

  void bring(int r, size_t c) const {
    const Share& share = shares_[r];
    const Stream lane = bring_lane(r);
    if (adding_.kernel && c >= kDepth)  // the place is free
      side().wait(lane, r, (share.result ? SideStreams::kReduced : SideStreams::kGiven) + slot(c));
    const Range range = pieces_[r][c];
    for (int k = 1; k <= ranks(); ++k) {  // each starts with another
      const int p = (r + k) % ranks();
      if (!share.from[p] || (p == r && adding_.kernel)) continue;
      SideStreams::copy(lane, place(r, p, c), share.from[p] + range.begin, range.bytes());
    }
    side().record(r, SideStreams::kBrought + slot(c), lane);
  }

  void reduce(int r, size_t c) const {
    const Stream lane = side().lane(r, SideStreams::kAdd);
    side().wait(lane, r, SideStreams::kBrought + slot(c));
    const Range range = pieces_[r][c];
    Args args{};
    for (int p = 0; p < ranks(); ++p)
      args.parts[p] = p == r ? shares_[r].from[r] + range.begin : place(r, p, c);
    args.out = result(r, c);
    args.count = static_cast<int64_t>(range.bytes() / adding_.item);
    args.ranks = ranks();
    args.average = adding_.average;
    const bool last = c + 1 == pieces_[r].size() && (c == 0 || !hides_last_sum(r));
    const int64_t full = static_cast<int64_t>(range.bytes() / 16 / adding_.threads) + 1;
    const int64_t most = last ? adding_.last_blocks : adding_.blocks;
    site_.launch_alone(adding_.kernel, lane, static_cast<int>(std::min(full, most)),
                       adding_.threads, &args);
    side().record(r, SideStreams::kReduced + slot(c), lane);
  }

  void give(int r, size_t c) const {
    const Stream lane = side().lane(r, SideStreams::kGive);
    side().wait(lane, r,
                (adding_.kernel ? SideStreams::kReduced : SideStreams::kBrought) + slot(c));
    const Range range = pieces_[r][c];
    for (int k = 1; k < ranks(); ++k) {
      const int p = (r + k) % ranks();
      if (char* const to = shares_[r].to[p])
        SideStreams::copy(lane, to + range.begin, result(r, c), range.bytes());
    }
    side().record(r, SideStreams::kGiven + slot(c), lane);
  }

  Site& site_;
  const Share (&shares_)[kMaxCudaRanks];
  const Adding adding_;
  size_t room_ = 0;  // bytes of a place in scratch memory
  std::vector<Range> pieces_[kMaxCudaRanks];
  size_t steps_ = 0;
};

Adding adding_of(const Site& site, const Unit& unit, const Plan& plan) {
  const ReduceOp op = unit.call().op;
  Adding adding{kernel(unit.dtype, op, site.ranks()), item_size(unit.dtype), op == ReduceOp::kAvg};
  if (plan.threads) adding.threads = plan.threads;
  if (plan.blocks) adding.blocks = plan.blocks;
  if (site.options().max_blocks) adding.last_blocks = site.options().max_blocks;
  if (!site.narrow(unit)) return adding;
  adding.kernel = kernel_aside(unit.dtype, op, site.ranks());
  adding.threads = kThreadsAside;
  adding.blocks = adding.last_blocks = kBlocksAside;
  return adding;
}

uint32_t all_of(int ranks) { return (1u << ranks) - 1; }

// `bytes` cut into one slice for each of the ranks in `owners`; the others get none.
void cut(size_t bytes, int ranks, uint32_t owners, Range (&slices)[kMaxCudaRanks]) {
  const size_t number = static_cast<size_t>(std::popcount(owners));
  const size_t slice = round_up((bytes + number - 1) / number, kPieceUnit);
  size_t at = 0;
  for (int r = 0; r < ranks; ++r) {
    const size_t end = owners >> r & 1 ? std::min(at + slice, bytes) : at;
    slices[r] = {at, end};
    at = end;
  }
}

// An all-reduce of the bytes in `range` of all buffers.
void share_out(const Site& site, const direct::Args& buffers, Range range,
               Share (&shares)[kMaxCudaRanks]) {
  Range slices[kMaxCudaRanks];
  cut(range.bytes(), site.ranks(), all_of(site.ranks()), slices);
  for (int r = 0; r < site.ranks(); ++r) {
    const size_t at = range.begin + slices[r].begin;
    shares[r].bytes = slices[r].bytes();
    shares[r].result = static_cast<char*>(buffers.out[r]) + at;
    for (int p = 0; p < site.ranks(); ++p) {
      shares[r].from[p] = static_cast<const char*>(buffers.in[p]) + at;
      if (p != r) shares[r].to[p] = static_cast<char*>(buffers.out[p]) + at;
    }
  }
}

// Two ranks: all at the root, so that everything crosses the link once. More: everybody else, so
// that the root's link carries no more than its own data.
uint32_t all_but(int ranks, int root) { return all_of(ranks) & ~(1u << root); }

// May the data be fetched from the root? A pair's root sends it, from where only itself must reach.
bool can_broadcast(const Site& site, const Unit& unit) {
  return parts::reachable(site, unit) && (site.ranks() == 2 || site.reachable(unit));
}

}  // namespace

const void* kernel(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(float_kernel, integer_kernel, dtype, op, ranks);
}

const void* kernel_aside(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(float_kernel_aside, integer_kernel_aside, dtype, op, ranks);
}

void for_each_kernel(void (*f)(const void* kernel)) {
  for_each_reduction(kernel, f);
  for_each_reduction(kernel_aside, f);
}
void no_kernel(void (*)(const void* kernel)) {}

bool suits(const Site& site, const Unit& unit) {
  if (!site.spread() || !parts::reachable(site, unit)) return false;
  return unit.call().kind == Kind::kAllReduce
             ? fastest_all_reduce(site, unit) == Algorithm::kCopyEngine
             : site.model().copies_pay(unit.call().kind, unit.bytes());
}
bool wants_large_scratch(const Site& site, const Unit& unit) {
  return unit.bytes() * static_cast<size_t>(site.ranks() - 1) >= kWantsRoom;
}
bool suits_broadcast(const Site& site, const Unit& unit) {
  return parts::is_large(site, unit) && can_broadcast(site, unit);
}

void all_reduce(Site& site, const Unit& unit, const Plan& plan) {
  const Adding adding = adding_of(site, unit, plan);
  direct::for_each_piece(site, unit, [&](direct::Args& buffers, size_t bytes) {
    Share shares[kMaxCudaRanks];
    share_out(site, buffers, {0, bytes}, shares);
    Flow(site, shares, adding, plan).queue();
  });
}

void reduce_scatter(Site& site, const Unit& unit, const Plan& plan) {
  if (!parts::reachable(site, unit)) return parts::reduce_by_scratch(site, unit, {});
  Share shares[kMaxCudaRanks];
  for (int r = 0; r < site.ranks(); ++r) {
    shares[r].bytes = unit.bytes();
    shares[r].result = static_cast<char*>(unit.out(r));
    for (int p = 0; p < site.ranks(); ++p)
      shares[r].from[p] = static_cast<const char*>(unit.in(p, r));
  }
  Flow(site, shares, adding_of(site, unit, plan), plan).queue();
}

void reduce(Site& site, const Unit& unit, const Plan& plan) {
  if (!parts::reachable(site, unit)) return parts::reduce_by_scratch(site, unit, {});
  const int ranks = site.ranks(), root = unit.call().root;
  Share shares[kMaxCudaRanks];
  Range slices[kMaxCudaRanks];
  cut(unit.bytes(), ranks, ranks == 2 ? 1u << root : all_but(ranks, root), slices);
  for (int r = 0; r < ranks; ++r) {
    shares[r].bytes = slices[r].bytes();
    for (int p = 0; p < ranks; ++p)
      shares[r].from[p] = static_cast<const char*>(unit.in(p)) + slices[r].begin;
    char* const out = static_cast<char*>(unit.out(root)) + slices[r].begin;
    (r == root ? shares[r].result : shares[r].to[root]) = out;
  }
  Flow(site, shares, adding_of(site, unit, plan), plan).queue();
}

// A pair's root sends everything. Among more, each of the others fetches a slice, and sends it on.
void broadcast(Site& site, const Unit& unit, const Plan& plan) {
  if (site.ranks() == 2) return parts::move_by_copy_engine(site, unit, plan);
  if (!can_broadcast(site, unit)) return direct::run_broadcast(site, unit, {});
  const int ranks = site.ranks(), root = unit.call().root;
  Share shares[kMaxCudaRanks];
  Range slices[kMaxCudaRanks];
  cut(unit.bytes(), ranks, all_but(ranks, root), slices);
  const auto* const in = static_cast<const char*>(unit.in(root));
  for (int r = 0; r < ranks; ++r) {
    const size_t at = slices[r].begin;
    shares[r].bytes = slices[r].bytes();
    shares[r].from[root] = in + at;
    shares[r].result = static_cast<char*>(unit.out(r)) + at;
    for (int p = 0; p < ranks; ++p)
      if (p != r && p != root) shares[r].to[p] = static_cast<char*>(unit.out(p)) + at;
  }
  if (in != unit.out(root)) {
    shares[root] = {};
    shares[root].bytes = unit.bytes();
    shares[root].from[root] = in;
    shares[root].result = static_cast<char*>(unit.out(root));
  }
  Flow(site, shares, {}, plan).queue();
}

}  // namespace vt::collectives::gpu::copy_engine
