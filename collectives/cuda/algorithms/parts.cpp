// Addresses, grids and choices of the kinds that move or reduce parts.
#include "collectives/cuda/algorithms/parts.h"

#include <algorithm>

#include "base/error.h"
#include "collectives/cuda/algorithms/direct.h"
#include "collectives/cuda/algorithms/kernels.h"

namespace vt::collectives::gpu::parts {
namespace {

constexpr int kMostBlocks = 64;
constexpr size_t kBytesPerBlock = 16 << 10;  // of a part: less does not pay for another block
constexpr size_t kMostPiece = 128 << 10;
constexpr size_t kSmallAlone = 128 << 10;
constexpr size_t kPieceUnit = 512;  // keeps pieces apart by whole lines

bool reduces(const Unit& unit) { return traits(unit.call().kind).reduces; }

// May all devices use every rank's output (of kinds that move), or every input (of those that
// reduce) and the outputs of others, directly?
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

int threads_of(const Plan& plan) { return plan.threads ? plan.threads : kThreads; }

int blocks_for(const Site& site, const Plan& plan, size_t bytes) {
  const int most =
      std::min(site.most_blocks(threads_of(plan)), plan.blocks ? plan.blocks : kMostBlocks);
  return static_cast<int>(std::clamp<size_t>(bytes / kBytesPerBlock, 1, most));
}

// Who sends what to whom, from byte `at` of every part on.
struct Route {
  const char* from[kMaxCudaRanks][kMaxCudaRanks] = {};  // [sender][receiver]
  char* to[kMaxCudaRanks][kMaxCudaRanks] = {};
};

Route route_of(const Unit& unit) {
  Route route;
  const auto add = [&](int source, int destination, const void* from, void* to) {
    route.from[source][destination] = static_cast<const char*>(from);
    route.to[source][destination] = static_cast<char*>(to);
  };
  if (!reduces(unit)) {
    for_each_move(unit, add);
    return route;
  }
  // Every rank sends to each that reduces the part it reduces; nothing to itself.
  for (int source = 0; source < unit.ranks(); ++source)
    for (int destination = 0; destination < unit.ranks(); ++destination)
      if (source != destination && unit.calls[destination].has_output(destination))
        add(source, destination,
            unit.in(source, unit.call().kind == Kind::kReduceScatter ? destination : 0), nullptr);
  return route;
}

Args args_for(const Site& site, const Route& route, int rank, size_t at) {
  Args args{};
  args.clique = site.clique(rank);
  for (int p = 0; p < site.ranks(); ++p) {
    if (route.from[rank][p]) args.from[p] = route.from[rank][p] + at;
    if (route.to[rank][p]) args.to[p] = route.to[rank][p] + at;
    if (route.to[p][rank]) args.out[p] = route.to[p][rank] + at;
    args.scratch[p] = site.scratch<char>(p);
  }
  return args;
}

ReduceArgs reduce_args(const Args& parts, const Unit& unit, int rank, size_t at) {
  ReduceArgs args{};
  args.parts = parts;
  const int part = unit.call().kind == Kind::kReduceScatter ? rank : 0;
  for (int p = 0; p < unit.ranks(); ++p)
    args.in[p] = static_cast<const char*>(unit.in(p, part)) + at;
  if (unit.calls[rank].has_output(rank)) args.out = static_cast<char*>(unit.out(rank)) + at;
  args.average = unit.call().op == ReduceOp::kAvg;
  return args;
}

// The largest piece with which all pieces that are on their way fit into scratch memory.
size_t piece_for(const Site& site, const Plan& plan, int blocks) {
  const size_t room = site.scratch_bytes() / (2 * site.ranks() * static_cast<size_t>(blocks));
  const size_t most = std::min(room, plan.chunk ? plan.chunk : kMostPiece);
  return std::max(most / kPieceUnit * kPieceUnit, kPieceUnit);
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

void set_mailboxes(const Site& site, const Packing& by, Args& args) {
  const size_t number = number_of(*find_algorithm(Kind::kAllGather, by.algorithm));
  for (int r = 0; r < site.ranks(); ++r) args.mailboxes[r] = site.mailbox<Mailbox>(r, number);
}

// Runs launch(rank, at, args, blocks, threads) for all ranks and as much of a part as one launch
// can take, again and again.
template <class Launch>
void for_each_stretch(const Site& site, const Unit& unit, const Packing& by, const Launch& launch) {
  const Route route = route_of(unit);
  const int most = packet_blocks(site), room = by.room(site.ranks());
  const size_t all = capacity(site, by);
  for (size_t at = 0; at < unit.bytes(); at += all) {
    const size_t bytes = std::min(all, unit.bytes() - at);
    const int packets = static_cast<int>((bytes + by.bytes - 1) / by.bytes);
    const int threads = std::min(kThreads, (packets * by.threads + 31) / 32 * 32);
    const int of_block =
        std::max((packets + most - 1) / most, std::min(threads / by.threads, room));
    for (int r = 0; r < site.ranks(); ++r) {
      Args args = args_for(site, route, r, at);
      set_mailboxes(site, by, args);
      args.bytes = static_cast<int64_t>(bytes);
      args.packets = of_block;
      launch(r, at, args, (packets + of_block - 1) / of_block, threads);
    }
  }
}

void move_packed(Site& site, const Unit& unit, const Packing& by, const void* kernel) {
  for_each_stretch(site, unit, by, [&](int rank, size_t, Args& args, int blocks, int threads) {
    site.launch_early(kernel, rank, blocks, threads, &args);
  });
}

void reduce_packed(Site& site, const Unit& unit, const Packing& by, const void* kernel) {
  for_each_stretch(site, unit, by, [&](int rank, size_t at, Args& parts, int blocks, int threads) {
    const ReduceArgs args = reduce_args(parts, unit, rank, at);
    site.launch_early(kernel, rank, blocks, threads, &args);
  });
}

}  // namespace

size_t packet_mailbox(const Mesh& mesh) { return mailbox_bytes(mesh, kByPackets); }
size_t line_mailbox(const Mesh& mesh) { return mailbox_bytes(mesh, kByLines); }

bool is_small(const Site& site, const Unit& unit) {
  // Ranks that share a device meet sooner.
  return unit.bytes() <=
         std::min(capacity(site, kByPackets), site.spread() ? SIZE_MAX : kSmallAlone);
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
  const Route route = route_of(unit);
  const int blocks = blocks_for(site, plan, unit.bytes());
  for (int r = 0; r < site.ranks(); ++r) {
    Args args = args_for(site, route, r, 0);
    args.bytes = static_cast<int64_t>(unit.bytes());
    args.piece = static_cast<int64_t>(piece_for(site, plan, blocks));
    site.launch(move_by_scratch_kernel(), r, blocks, threads_of(plan), &args);
  }
}

void move(Site& site, const Unit& unit, const Plan& plan) {
  if (!reachable(site, unit)) return move_by_scratch(site, unit, plan);
  const Route route = route_of(unit);
  const int blocks = blocks_for(site, plan, unit.bytes());
  for (int r = 0; r < site.ranks(); ++r) {
    Args args = args_for(site, route, r, 0);
    args.bytes = static_cast<int64_t>(unit.bytes());
    site.launch(move_kernel(), r, blocks, threads_of(plan), &args);
  }
}

// Between two meetings of all ranks; no multiprocessor moves anything.
void move_by_copy_engine(Site& site, const Unit& unit, const Plan& plan) {
  if (!reachable(site, unit)) return move_by_scratch(site, unit, plan);
  const Route route = route_of(unit);
  direct::launch(site, direct::barrier_kernel(), {}, 1, 32);
  for (int r = 0; r < site.ranks(); ++r)
    for (int k = 1; k <= site.ranks(); ++k) {  // each starts with another
      const int p = (r + k) % site.ranks();
      if (route.from[r][p]) site.copy(r, route.to[r][p], route.from[r][p], unit.bytes());
    }
  direct::launch(site, direct::barrier_kernel(), {}, 1, 32);
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
  const Route route = route_of(unit);
  const int blocks = blocks_for(site, plan, unit.bytes());
  for (int r = 0; r < site.ranks(); ++r) {
    ReduceArgs args = reduce_args(args_for(site, route, r, 0), unit, r, 0);
    args.parts.bytes = static_cast<int64_t>(unit.bytes());
    args.parts.piece = static_cast<int64_t>(piece_for(site, plan, blocks));
    site.launch(kernel, r, blocks, threads_of(plan), &args);
  }
}

// Whoever reduces loads from all. What only the root wants is reduced in slices, one a rank.
void reduce(Site& site, const Unit& unit, const Plan& plan) {
  if (!reachable(site, unit)) return reduce_by_scratch(site, unit, plan);
  const void* const kernel = reduce_kernel(unit.dtype, unit.call().op, site.ranks());
  const int ranks = site.ranks();
  const bool sliced = unit.call().kind == Kind::kReduce;
  // Slices begin at whole words, in elements.
  const int64_t unit_of = sliced ? 16 / static_cast<int64_t>(item_size(unit.dtype)) : 1;
  const int64_t slice =
      sliced ? ((unit.part + ranks - 1) / ranks + unit_of - 1) / unit_of * unit_of : unit.part;
  const int blocks = blocks_for(site, plan, static_cast<size_t>(slice) * item_size(unit.dtype));
  for (int r = 0; r < ranks; ++r) {
    const int64_t begin = sliced ? std::min(r * slice, unit.part) : 0;
    const size_t at = static_cast<size_t>(begin) * item_size(unit.dtype);
    ReduceArgs args = reduce_args({}, unit, r, at);
    args.parts.clique = site.clique(r);
    args.count = sliced || args.out ? std::min(slice, unit.part - begin) : 0;
    if (sliced) args.out = static_cast<char*>(unit.out(unit.call().root)) + at;
    site.launch(kernel, r, blocks, threads_of(plan), &args);
  }
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
