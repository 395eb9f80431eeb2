// The list of algorithms, and the choice among them.
#include "collectives/cuda/algorithm.h"

#include "base/error.h"
#include "collectives/cuda/algorithms/entries.h"

namespace vt::collectives::gpu {
namespace {

// Bytes of a part. Copies take some us to start. Of very long all-reduces each sum waits longer for
// the end of a large product than few blocks would take from it.
constexpr size_t kLeastAside = 1 << 20, kMostAside = 128 << 20;

// Of one kind, from the special to the general: the last one suits everything.
constexpr AlgorithmEntry kAlgorithms[] = {
    packets::kAllReduce,
    lines::kAllReduce,
    packets2::kAllReduce,
    one_shot::kAllReduce,
    copy_engine::kAllReduce,
    push::kAllReduce,
    ring::kAllReduce,
    two_shot::kAllReduce,
    parts::packets_of(Kind::kReduceScatter),
    parts::lines_of(Kind::kReduceScatter),
    copy_engine::kReduceScatter,
    parts::direct_of(Kind::kReduceScatter),
    parts::scratch_of(Kind::kReduceScatter),
    parts::packets_of(Kind::kAllGather),
    parts::lines_of(Kind::kAllGather),
    parts::copy_engine_of(Kind::kAllGather),
    parts::direct_of(Kind::kAllGather),
    parts::scratch_of(Kind::kAllGather),
    parts::packets_of(Kind::kBroadcast),
    parts::lines_of(Kind::kBroadcast),
    copy_engine::kBroadcast,
    parts::kScratchBroadcast,
    parts::kOneShotBroadcast,
    direct::kBroadcast,
    parts::packets_of(Kind::kReduce),
    parts::lines_of(Kind::kReduce),
    copy_engine::kReduce,
    parts::kOneShotReduce,
    parts::direct_of(Kind::kReduce),
    parts::scratch_of(Kind::kReduce),
    parts::packets_of(Kind::kAllToAll),
    parts::lines_of(Kind::kAllToAll),
    parts::copy_engine_of(Kind::kAllToAll),
    parts::direct_of(Kind::kAllToAll),
    parts::scratch_of(Kind::kAllToAll),
    parts::packets_of(Kind::kGather),
    parts::lines_of(Kind::kGather),
    parts::copy_engine_of(Kind::kGather),
    parts::direct_of(Kind::kGather),
    parts::scratch_of(Kind::kGather),
    parts::packets_of(Kind::kScatter),
    parts::lines_of(Kind::kScatter),
    parts::copy_engine_of(Kind::kScatter),
    parts::direct_of(Kind::kScatter),
    parts::scratch_of(Kind::kScatter),
    parts::packets_of(Kind::kSendRecv),
    parts::lines_of(Kind::kSendRecv),
    parts::copy_engine_of(Kind::kSendRecv),
    parts::direct_of(Kind::kSendRecv),
    parts::scratch_of(Kind::kSendRecv),
    direct::kBarrier,
};

// No graph of one device holds copies to another. That a line arrives as one holds on NVLink and
// within a device only (Note [Whole lines]).
bool can_run_now(const AlgorithmEntry& entry, const Site& site) {
  if (entry.algorithm == Algorithm::kLines) return !site.through_host();
  return !entry.by_copy_engine || !site.streams().capturing() || site.streams().one_capture();
}

// Copy engines were measured on tensors that all devices reach. What is the fastest of many blocks
// is not that of few.
bool can_follow(const Measured& row, const Site& site, const Unit& unit) {
  const AlgorithmEntry* const entry = find_algorithm(unit.call().kind, row.algorithm);
  if (!entry || !can_run_now(*entry, site)) return false;
  if (site.narrow(unit) && (row.blocks > site.limit(unit) || entry->by_copy_engine)) return false;
  return !entry->by_copy_engine || (!site.options().always_stage && site.reachable(unit));
}

// By copy engines, beside other work: they take the least from it. Or null.
const AlgorithmEntry* aside(const Site& site, const Unit& unit) {
  const Kind kind = unit.call().kind;
  if (unit.bytes() < kLeastAside || (kind == Kind::kAllReduce && unit.bytes() >= kMostAside))
    return nullptr;
  const AlgorithmEntry* const entry = find_algorithm(kind, Algorithm::kCopyEngine);
  const bool can = entry && can_run_now(*entry, site) && !site.options().always_stage;
  return can && site.reachable(unit) ? entry : nullptr;
}

}  // namespace

std::span<const AlgorithmEntry> algorithms() { return kAlgorithms; }

size_t number_of(const AlgorithmEntry& entry) { return static_cast<size_t>(&entry - kAlgorithms); }

const AlgorithmEntry* find_algorithm(Kind kind, Algorithm algorithm) {
  for (const AlgorithmEntry& entry : kAlgorithms)
    if (entry.kind == kind && entry.algorithm == algorithm) return &entry;
  return nullptr;
}

Choice choose(const Site& site, const Unit& unit) {
  const Kind kind = unit.call().kind;
  const Options& options = site.options();
  const AlgorithmEntry* entry = find_algorithm(kind, options.algorithm);
  if (entry && !can_run_now(*entry, site)) entry = nullptr;
  if (!entry && site.narrow(unit)) entry = aside(site, unit);
  Plan plan;
  const auto usable = [&](const Measured& row) { return can_follow(row, site, unit); };
  if (const Measured* row = entry ? nullptr : site.measured(unit, usable)) {
    entry = find_algorithm(kind, row->algorithm);
    plan = {row->algorithm, row->blocks, row->threads, row->chunk_bytes};
  }
  for (const AlgorithmEntry& candidate : kAlgorithms)
    if (!entry && candidate.kind == kind && can_run_now(candidate, site) &&
        candidate.suits(site, unit) && !(site.narrow(unit) && candidate.by_copy_engine))
      entry = &candidate;
  VT_CHECK(entry, kRuntime, name(kind), ": no algorithm for GPUs");
  plan.algorithm = entry->algorithm;
  if (const int limit = site.limit(unit)) plan.blocks = limit;
  // Few blocks make up for it in loads that are on their way.
  if (site.narrow(unit) && traits(kind).reduces && plan.algorithm == Algorithm::kTwoShot)
    plan.threads = kMaxThreads;
  if (options.threads) plan.threads = options.threads;
  if (options.chunk_bytes) plan.chunk = options.chunk_bytes;
  return {entry, plan};
}

bool always(const Site&, const Unit&) { return true; }

Algorithm fastest_all_reduce(const Site& site, const Unit& unit) {
  const bool copy_engines = !site.options().always_stage && site.reachable(unit);
  return site.model().fastest_all_reduce(unit.bytes(), copy_engines);
}

}  // namespace vt::collectives::gpu
