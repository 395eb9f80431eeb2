// Addresses, grids and choices of the kinds that move or reduce parts.
#include "collectives/cuda/algorithms/parts.h"

#include <algorithm>

#include "base/error.h"
#include "collectives/cuda/algorithms/direct.h"
#include "collectives/cuda/algorithms/kernels.h"

namespace vt::collectives::gpu::parts {
namespace {

constexpr int kMostBlocks = 64;              // through scratch memory, or within a device
constexpr int kMostDirectBlocks = 128;       // between devices
constexpr size_t kLargeForRoot = 16 << 20;   // a root reduces alone from there on
constexpr size_t kBytesPerBlock = 16 << 10;  // of a part: less does not pay for another block
constexpr size_t kMostPiece = 128 << 10;
constexpr size_t kSmallAlone = 128 << 10;
constexpr size_t kPieceUnit = 512;  // keeps pieces apart by whole lines

bool reduces(const Unit& unit) { return traits(unit.call().kind).reduces; }

int threads_of(const Plan& plan) { return plan.threads ? plan.threads : kThreads; }

int blocks_for(const Site& site, const Plan& plan, size_t bytes, int wanted = kMostBlocks) {
  const int most = std::min(site.most_blocks(threads_of(plan)), plan.blocks ? plan.blocks : wanted);
  return static_cast<int>(std::clamp<size_t>(bytes / kBytesPerBlock, 1, most));
}

Args args_for(const Site& site, const Unit& unit) {
  const Traits& kind = traits(unit.call().kind);
  const auto step = static_cast<int64_t>(unit.bytes());
  Args args{};
  args.in_step = kind.input == Parts::kPerRank ? step : 0;
  args.out_step = kind.output == Parts::kPerRank ? step : 0;
  const auto add = [&](int sender, int receiver) {
    args.receivers[sender] |= static_cast<uint8_t>(1 << receiver);
    args.senders[receiver] |= static_cast<uint8_t>(1 << sender);
  };
  for (int r = 0; r < site.ranks(); ++r) {
    const Call& call = unit.calls[r];
    if (call.has_input(r)) args.in[r] = static_cast<const char*>(unit.in(r));
    if (call.has_output(r)) args.out[r] = static_cast<char*>(unit.out(r));
    args.scratch[r] = site.scratch<char>(r);
    // Every rank sends to each that reduces the part it reduces; nothing to itself.
    for (int sender = 0; kind.reduces && call.has_output(r) && sender < site.ranks(); ++sender)
      if (sender != r) add(sender, r);
  }
  for_each_move(unit, [&](int sender, int receiver, const void*, void*) { add(sender, receiver); });
  args.bytes = step;
  return args;
}

// The largest piece with which all pieces that are on their way fit into scratch memory.
size_t piece_for(const Site& site, const Plan& plan, int blocks) {
  const size_t room = site.scratch_bytes() / (2 * site.ranks() * static_cast<size_t>(blocks));
  const size_t most = std::min(room, plan.chunk ? plan.chunk : kMostPiece);
  return std::max(most / kPieceUnit * kPieceUnit, kPieceUnit);
}

int direct_blocks_for(const Site& site, const Plan& plan, size_t bytes) {
  return blocks_for(site, plan, bytes, site.spread() ? kMostDirectBlocks : kMostBlocks);
}

// Packets, or lines.
struct Packing {
  Algorithm algorithm;
  int bytes;               // of data
  int threads;             // that send one
  int (*room)(int ranks);  // of a block in a mailbox
  size_t memory;           // bytes there
};
constexpr Packing kByPackets{Algorithm::kPackets, packets::kPacketBytes, 1, packet_room,
                             sizeof(packets::Packet)};
constexpr Packing kByLines{Algorithm::kLines, lines::kLineBytes, 8, line_room, sizeof(lines::Line)};

int packet_blocks(const Site& site) { return std::min(site.most_blocks(kThreads), kPacketBlocks); }

// Bytes of a part that one launch can send.
size_t capacity(const Site& site, const Packing& by) {
  return static_cast<size_t>(packet_blocks(site)) * by.room(site.ranks()) * by.bytes;
}

size_t mailbox_bytes(const Mesh& mesh, const Packing& by) {
  return sizeof(Mailbox) +
         by.memory * 2 * mesh.size() * kPacketBlocks * static_cast<size_t>(by.room(mesh.size()));
}

// Launches the kernel for as much of a part as one launch can take, again and again. `parts` are
// the args, or in them.
void launch_packed(const Site& site, const Packing& by, const void* kernel, void* args,
                   Args& parts) {
  const size_t number = number_of(*find_algorithm(Kind::kAllGather, by.algorithm));
  for (int r = 0; r < site.ranks(); ++r) parts.mailboxes[r] = site.mailbox<Mailbox>(r, number);
  const int most = packet_blocks(site), room = by.room(site.ranks());
  const auto all = static_cast<int64_t>(capacity(site, by));
  for (int64_t left = parts.bytes; left > 0; left -= all) {
    parts.bytes = std::min(all, left);
    const auto packets = static_cast<int>((parts.bytes + by.bytes - 1) / by.bytes);
    const int threads = std::min(kThreads, (packets * by.threads + 31) / 32 * 32);
    parts.packets = std::max((packets + most - 1) / most, std::min(threads / by.threads, room));
    site.launch_early(kernel, (packets + parts.packets - 1) / parts.packets, threads, args,
                      parts.clique);
    for (int r = 0; r < site.ranks(); ++r) {
      if (parts.in[r]) parts.in[r] += parts.bytes;
      if (parts.out[r]) parts.out[r] += parts.bytes;
    }
  }
}

void move_packed(const Site& site, const Unit& unit, const Packing& by, const void* kernel) {
  Args args = args_for(site, unit);
  launch_packed(site, by, kernel, &args, args);
}

ReduceArgs reduce_args(const Site& site, const Unit& unit) {
  ReduceArgs args{};
  args.parts = args_for(site, unit);
  args.average = unit.call().op == ReduceOp::kAvg;
  return args;
}

void reduce_packed(const Site& site, const Unit& unit, const Packing& by, const void* kernel) {
  ReduceArgs args = reduce_args(site, unit);
  launch_packed(site, by, kernel, &args, args.parts);
}

void launch_reduction(const Site& site, const Unit& unit, const Plan& plan, ReduceArgs& args,
                      int64_t slice) {
  const size_t bytes = static_cast<size_t>(slice) * item_size(unit.dtype);
  site.launch(reduce_kernel(unit.dtype, unit.call().op, site.ranks()),
              direct_blocks_for(site, plan, bytes), threads_of(plan), &args, args.parts.clique);
}

}  // namespace

bool reachable(const Site& site, const Unit& unit) {
  if (site.options().always_stage) return false;
  const auto can = [&](const Tensor& t) {
    return fabric::reachable(site.mesh(), t.device(), t.data(), t.bytes());
  };
  const Kind kind = unit.call().kind;
  for (int r = 0; r < site.ranks(); ++r) {
    const Call& call = unit.calls[r];
    if (reduces(unit) && !can(call.input)) return false;
    if (kind != Kind::kReduceScatter && call.has_output(r) && !can(call.output)) return false;
  }
  return true;
}

size_t packet_mailbox(const Mesh& mesh) { return mailbox_bytes(mesh, kByPackets); }
size_t line_mailbox(const Mesh& mesh) { return mailbox_bytes(mesh, kByLines); }

bool is_small(const Site& site, const Unit& unit) {
  if (unit.bytes() > capacity(site, kByPackets)) return false;
  // Ranks that share a device meet sooner.
  return site.spread() ? site.model().packets_pay(unit.call().kind, unit.bytes())
                       : unit.bytes() <= kSmallAlone;
}

// Ranks of one device share the bandwidth of its memory.
bool is_large(const Site& site, const Unit& unit) {
  return site.spread() && site.model().copies_pay(unit.call().kind, unit.bytes()) &&
         reachable(site, unit);
}

// Of a pair the root alone has all that crosses the link cross it as loads; among more ranks its
// link would carry everything of everybody.
bool is_large_for_root(const Site& site, const Unit& unit) {
  return site.spread() && site.ranks() == 2 && unit.bytes() >= kLargeForRoot &&
         reachable(site, unit);
}

bool on_request(const Site&, const Unit&) { return false; }

bool pair_without_reach(const Site& site, const Unit& unit) {
  return site.ranks() == 2 && !reachable(site, unit);
}

void move_by_packets(Site& site, const Unit& unit, const Plan&) {
  move_packed(site, unit, kByPackets, move_by_packets_kernel(site.ranks()));
}

void move_by_lines(Site& site, const Unit& unit, const Plan&) {
  move_packed(site, unit, kByLines, move_by_lines_kernel(site.ranks()));
}

void move_by_scratch(Site& site, const Unit& unit, const Plan& plan) {
  const int blocks = blocks_for(site, plan, unit.bytes());
  Args args = args_for(site, unit);
  args.piece = static_cast<int64_t>(piece_for(site, plan, blocks));
  site.launch(move_by_scratch_kernel(), blocks, threads_of(plan), &args, args.clique);
}

void move(Site& site, const Unit& unit, const Plan& plan) {
  if (!reachable(site, unit)) return move_by_scratch(site, unit, plan);
  Args args = args_for(site, unit);
  site.launch(move_kernel(), direct_blocks_for(site, plan, unit.bytes()), threads_of(plan), &args,
              args.clique);
}

void meet(Site& site) {
  direct::BarrierArgs barrier{};
  barrier.spread = site.spread();
  site.launch(direct::barrier_kernel(), 1, 32, &barrier, barrier.clique);
}

// Between two meetings of all ranks; what a rank has for itself goes beside what it sends.
void move_by_copy_engine(Site& site, const Unit& unit, const Plan&) {
  if (!reachable(site, unit)) return move_by_scratch(site, unit, {});
  const Args args = args_for(site, unit);
  SideStreams& side = site.side();
  meet(site);
  const auto copy = [&](Stream stream, int r, int p) {
    if (args.receivers[r] >> p & 1)
      SideStreams::copy(stream, args.out[p] + r * args.out_step, args.in[r] + p * args.in_step,
                        unit.bytes());
  };
  for (int r = 0; r < site.ranks(); ++r) {
    const Stream main = site.streams().at(r), lane = side.lane(r, SideStreams::kBring);
    const bool own = args.receivers[r] >> r & 1;
    if (own) {
      side.record(r, SideStreams::kStarted, main);
      side.wait(lane, r, SideStreams::kStarted);
      copy(lane, r, r);
      side.record(r, SideStreams::kBrought, lane);
    }
    for (int k = 1; k < site.ranks(); ++k)  // each starts with another
      copy(main, r, (r + k) % site.ranks());
    if (own) side.wait(main, r, SideStreams::kBrought);
  }
  meet(site);
}

void reduce_by_packets(Site& site, const Unit& unit, const Plan&) {
  reduce_packed(site, unit, kByPackets,
                reduce_by_packets_kernel(unit.dtype, unit.call().op, site.ranks()));
}

void reduce_by_lines(Site& site, const Unit& unit, const Plan&) {
  reduce_packed(site, unit, kByLines,
                reduce_by_lines_kernel(unit.dtype, unit.call().op, site.ranks()));
}

void reduce_by_scratch(Site& site, const Unit& unit, const Plan& plan) {
  const void* const kernel = reduce_by_scratch_kernel(unit.dtype, unit.call().op, site.ranks());
  const int blocks = blocks_for(site, plan, unit.bytes());
  ReduceArgs args = reduce_args(site, unit);
  args.parts.piece = static_cast<int64_t>(piece_for(site, plan, blocks));
  site.launch(kernel, blocks, threads_of(plan), &args, args.parts.clique);
}

// Whoever reduces loads from all. What only the root wants is reduced in slices, one a rank.
void reduce(Site& site, const Unit& unit, const Plan& plan) {
  if (unit.call().kind == Kind::kReduceScatter) return reduce_where_wanted(site, unit, plan);
  if (!reachable(site, unit)) return reduce_by_scratch(site, unit, plan);
  const int ranks = site.ranks();
  const auto item = static_cast<int64_t>(item_size(unit.dtype));
  ReduceArgs args = reduce_args(site, unit);
  const int64_t word = 16 / item;  // slices begin at whole ones
  const int64_t slice = ((unit.part + ranks - 1) / ranks + word - 1) / word * word;  // elements
  args.parts.in_step = slice * item;
  char* const out = args.parts.out[unit.call().root];
  for (int r = 0; r < ranks; ++r) {
    args.parts.out[r] = out + r * slice * item;
    args.counts[r] = std::clamp<int64_t>(unit.part - r * slice, 0, slice);
  }
  launch_reduction(site, unit, plan, args, slice);
}

// Whoever wants a part reduces all of it.
void reduce_where_wanted(Site& site, const Unit& unit, const Plan& plan) {
  if (!reachable(site, unit)) return reduce_by_scratch(site, unit, plan);
  ReduceArgs args = reduce_args(site, unit);
  for (int r = 0; r < site.ranks(); ++r) args.counts[r] = args.parts.out[r] ? unit.part : 0;
  launch_reduction(site, unit, plan, args, unit.part);
}

const void* reduce_kernel(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(reduce_float_kernel, reduce_integer_kernel, dtype, op, ranks);
}

const void* reduce_by_scratch_kernel(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(reduce_by_scratch_float_kernel, reduce_by_scratch_integer_kernel, dtype, op,
                      ranks);
}

const void* reduce_by_packets_kernel(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(reduce_by_packets_float_kernel, reduce_by_packets_integer_kernel, dtype, op,
                      ranks);
}

const void* reduce_by_lines_kernel(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(reduce_by_lines_float_kernel, reduce_by_lines_integer_kernel, dtype, op,
                      ranks);
}

void each_move(void (*f)(const void* kernel)) {
  f(move_kernel());
  f(move_by_scratch_kernel());
}

void each_packet_move(void (*f)(const void* kernel)) {
  for (int ranks : {2, 4, 8}) f(move_by_packets_kernel(ranks));
}

void each_reduce(void (*f)(const void* kernel)) {
  for_each_reduction(reduce_kernel, f);
  for_each_reduction(reduce_by_scratch_kernel, f);
}

void each_packet_reduce(void (*f)(const void* kernel)) {
  for_each_reduction(reduce_by_packets_kernel, f);
}

void each_line_move(void (*f)(const void* kernel)) {
  for (int ranks : {2, 4, 8}) f(move_by_lines_kernel(ranks));
}

void each_line_reduce(void (*f)(const void* kernel)) {
  for_each_reduction(reduce_by_lines_kernel, f);
}

}  // namespace vt::collectives::gpu::parts
