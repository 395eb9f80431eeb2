// Grids of the all-reduces through mailboxes.
#include "collectives/cuda/algorithms/mailboxes.h"

#include <algorithm>

namespace vt::collectives::gpu::mailboxes {

void run(Site& site, const Unit& unit, const Plan& plan, const Cut& cut, const void* kernel) {
  const auto ceil_div = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const size_t number = number_of(*find_algorithm(Kind::kAllReduce, cut.algorithm));
  // A block's place in a mailbox never changes, see Note [Packet mailboxes].
  const int places = site.most_blocks(512);
  Args<void> args{};
  args.stretch = cut.stretch;
  args.room = cut.stretch / places;
  args.average = unit.call().op == ReduceOp::kAvg;
  for (int r = 0; r < site.ranks(); ++r) args.boxes[r] = site.mailbox<char>(r, number);

  for (size_t at = 0; at < unit.bytes();) {
    const size_t left = unit.bytes() - at;
    const int64_t wanted = ceil_div(static_cast<int64_t>(left), static_cast<int64_t>(cut.bytes));
    const int64_t most_threads = plan.threads ? plan.threads : cut.threads(site, left);
    const int threads =
        static_cast<int>(std::min(most_threads, ceil_div(wanted * cut.lanes, 32) * 32));
    int most = std::min(site.most_blocks(threads), places);
    if (plan.blocks) most = std::min(most, plan.blocks);
    const int64_t blocks = std::clamp<int64_t>(ceil_div(wanted, threads / cut.lanes), 1, most);
    args.per_block = std::min(ceil_div(wanted, blocks), args.room);
    args.units = std::min(wanted, args.per_block * blocks);
    const size_t bytes = std::min(left, static_cast<size_t>(args.units) * cut.bytes);
    args.count = static_cast<int64_t>(bytes / item_size(unit.dtype));
    for (int r = 0; r < site.ranks(); ++r) {
      args.in[r] = unit.calls[r].input.data<char>() + at;
      args.out[r] = unit.calls[r].output.data<char>() + at;
    }
    site.launch_early(kernel, static_cast<int>(ceil_div(args.units, args.per_block)), threads,
                      &args, args.clique);
    at += bytes;
  }
}

}  // namespace vt::collectives::gpu::mailboxes
