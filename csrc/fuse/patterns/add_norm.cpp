// A sum that is normalised next: one kernel adds, stores the sum and its norm. The same bits, as
// the norm is taken of the rounded sum.
#include "fuse/patterns/pattern.h"

namespace vt::fuse {
int fuse_add_norm(PatternList& list) {
  int found = 0;
  for (int i = 0; i < list.size(); ++i) {
    const auto* norm = std::get_if<NormCall>(&list[i].call);
    if (!norm || norm->residual.defined()) continue;
    const Range x{norm->x.data<char>(), norm->x.data<char>() + norm->x.bytes()};
    const int at = list.last_writer(i, x);
    if (at < 0) continue;
    const Node& sum = list[at];
    if (!is_plain_sum(sum) || !is_whole(sum.out, sum.space, norm->x) ||
        sum.in[0].data == sum.out.data || sum.in[1].data == sum.out.data)
      continue;
    list.place(at);
    NormCall call = *norm;
    call.sum = norm->x;
    call.x = over(sum.in[0], norm->x);
    call.residual = over(sum.in[1], norm->x);
    Node both(NodeKind::kCall, "add_norm", list[i].device);
    both.call = call;
    prepare_call(both);
    // Who else reads the sum must find it: the kernel runs where the sum did, or, where that is too
    // early for its weights, where the norm did.
    if (list.may_move(both, i, at)) {
      list.remove(i);
      list[at] = std::move(both);
    } else if (list.may_move(both, at, i)) {
      list.remove(at);
      list[i] = std::move(both);
    } else {
      continue;
    }
    ++found;
  }
  return found;
}

}  // namespace vt::fuse
