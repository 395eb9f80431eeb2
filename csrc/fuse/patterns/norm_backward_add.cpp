// A norm's gradient that another gradient is added to next: the kernel adds it before it rounds.
// One rounding where the two kernels do two, so results in 16 bits may differ in their last bit.
#include "fuse/patterns/pattern.h"

namespace vt::fuse {
int fuse_norm_backward_add(PatternList& list) {
  int found = 0;
  for (int i = 0; i < list.size(); ++i) {
    const auto* norm = std::get_if<NormBackwardCall>(&list[i].call);
    if (!norm || norm->extra.defined() || !norm->dx.defined()) continue;
    const Range dx{norm->dx.data<char>(), norm->dx.data<char>() + norm->dx.bytes()};
    const int at = list.only_reader(i, dx);
    if (at < 0 || !is_plain_sum(list[at])) continue;
    const Node& sum = list[at];
    const int own = is_whole(sum.in[0], sum.space, norm->dx) ? 0 : 1;
    if (!is_whole(sum.in[own], sum.space, norm->dx) || sum.in[1 - own].data == norm->dx.data())
      continue;
    list.place(at);
    NormBackwardCall call = *norm;
    call.dx = over(sum.out, norm->dx);
    call.extra = over(sum.in[1 - own], norm->dx);
    Node both(NodeKind::kCall, "norm_backward_add", list[i].device);
    both.call = call;
    prepare_call(both);
    // The other gradient may be made between the two.
    if (!list.may_move(both, i, at)) continue;
    list[at] = std::move(both);
    list.remove(i);
    ++found;
  }
  return found;
}

}  // namespace vt::fuse
